"""Keras 3's `.weights.h5`, as Keras' own ResNet 50, 101 and 152 (v1) save and load it.

Keras finds a layer by its class and by its place among the layers of that class: the fifth
convolution is `layers/conv2d_4/vars`, whose data sets are called 0, 1, ... The places are those of
`model.layers`, which goes from the input to the output and takes the shortcut of a block last,
just in front of what it is needed for:

    1_conv 1_bn 1_relu   2_conv 2_bn 2_relu   0_conv 3_conv   0_bn 3_bn   add out

Groups of layers without tensors are there, too, and empty. What a file says beyond that (the
variant, the contract, the class names) is text in an attribute of the root, which Keras ignores.
"""

import io
from collections import Counter
from collections.abc import Iterator

from resnet_np.errors import UserError, some
from resnet_np.weights import facts, names
from resnet_np.weights.adapt import adapt
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.contract import KERAS_CAFFE, Contract
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.keras import CURRENT_EPS
from resnet_np.weights.structure import pooling_of

# What the data sets 0, 1, ... of a layer are, in torchvision's terms.
LEAVES = {
    "conv2d": ("weight", "bias"),
    "batch_normalization": ("weight", "bias", "running_mean", "running_var"),
    "dense": ("weight", "bias"),
}
MODULES = names.keras_names(152)  # the names of the smaller networks are among these
FULL_WIDTH = 64


def write_keras(path: str, file: WeightFile) -> list[str]:
    """A `.weights.h5` for keras.applications.ResNet50, ResNet101 or ResNet152.

    Without a head it is for include_top=False. Keras fixes the epsilon and demands biases; weights
    that have it otherwise are adapted.

    Raises UserError for a network that Keras does not have: v1.5, 18 and 34, hidden layers in the
    head.
    """
    _check(path, file)
    adapted, notes = adapt(file, bn_eps=CURRENT_EPS, conv_bias=True)
    with atomic_file(path) as target:
        target.write(_to_hdf5(adapted))
    return notes + list(_warnings(file))


def _check(path: str, file: WeightFile) -> None:
    cannot = f"{path}: cannot hold the weights of {file.path}"
    if file.depth not in names.BOTTLENECK_DEPTHS:
        which = "other blocks" if file.depth is None else f"ResNet-{file.depth}"
        raise UserError(f"{cannot}: Keras has ResNet 50, 101 and 152, not {which}; .onnx has all")
    if file.variant is None:
        raise UserError(
            f"{cannot}: they do not say whether they are for v1 or v1.5, and Keras has v1 only:"
            ' the variant must be said, as in variant="v1" (--variant v1)'
        )
    if file.variant != "v1":
        raise UserError(
            f"{cannot}: Keras has v1 only, and they are for {file.variant}; .onnx has both"
        )
    if _has_head(file) and pooling_of(file) != "avg":
        raise UserError(
            f"{cannot}: their head is for the maximum over the image, Keras' network"
            " takes the mean; .onnx has both"
        )
    expected = {name for kind, layer in _layers_of(file) for name in _tensors(kind, layer)}
    needed = {n for n in expected if not _is_conv_bias(n)}
    if others := sorted(set(file.arrays) - expected):
        raise UserError(
            f"{cannot}: Keras' network has no {some(others)}; .onnx can have them", others
        )
    if missing := sorted(needed - set(file.arrays)):
        raise UserError(f"{cannot}: they lack {some(missing)}", missing)


def _has_head(file: WeightFile) -> bool:
    return any(name.startswith("fc.") for name in file.arrays)


def _is_conv_bias(name: str) -> bool:
    module, _, leaf = name.rpartition(".")
    return leaf == "bias" and names.kind(module) == "conv"


def _warnings(file: WeightFile) -> Iterator[str]:
    contract = file.contract
    if _arithmetic(contract) != _arithmetic(KERAS_CAFFE):
        yield (
            "keras.applications.resnet.preprocess_input is not what these weights expect: they"
            f" want {contract.color} times {contract.scale:.6g}, minus {contract.mean}, divided by"
            f" {contract.std}"
        )
    if (width := file.arrays["conv1.weight"].shape[3]) != FULL_WIDTH:
        yield (
            f"keras.applications has no ResNet that begins with {width} channels: it takes a model"
            " of your own, with the same layers in the same order, to load this file"
        )


def _arithmetic(contract: Contract) -> tuple[object, ...]:
    return contract.color, contract.scale, contract.mean, contract.std


def _to_hdf5(file: WeightFile) -> memoryview:
    """The file's bytes. Same weights, same bytes: nothing in it says when it was made."""
    import h5py

    stream, places = io.BytesIO(), Counter[str]()
    with h5py.File(stream, "w") as h5:
        h5.attrs[facts.KEY] = facts.to_text(file)
        h5.create_group("vars").attrs["name"] = f"resnet{file.depth}"
        for kind, layer in _layers_of(file):
            place = f"_{places[kind]}" if places[kind] else ""
            places[kind] += 1
            group = h5.create_group(f"layers/{kind}{place}/vars")
            group.attrs["name"] = layer
            for i, name in enumerate(_tensors(kind, layer)):
                group[str(i)] = file.arrays[name]
    return stream.getbuffer()


def _tensors(kind: str, layer: str) -> list[str]:
    """torchvision's names of a layer's tensors, in the order in which Keras numbers them."""
    return [f"{MODULES[layer]}.{leaf}" for leaf in LEAVES[kind]] if kind in LEAVES else []


def _layers_of(file: WeightFile) -> Iterator[tuple[str, str]]:
    assert file.depth is not None  # _check has seen to it
    return layers_in_order(names.BLOCKS[file.depth], _has_head(file))


def layers_in_order(blocks: tuple[int, ...], has_head: bool) -> Iterator[tuple[str, str]]:
    """(class, name) of each layer, in the order of Keras' `model.layers`."""
    yield from (
        ("input_layer", "input_layer"),
        ("zero_padding2d", "conv1_pad"),
        ("conv2d", "conv1_conv"),
        ("batch_normalization", "conv1_bn"),
        ("activation", "conv1_relu"),
        ("zero_padding2d", "pool1_pad"),
        ("max_pooling2d", "pool1_pool"),
    )
    for stage, count in enumerate(blocks, start=2):
        for block in range(1, count + 1):
            yield from _block(f"conv{stage}_block{block}", has_shortcut=block == 1)
    if has_head:
        yield "global_average_pooling2d", "avg_pool"
        yield "dense", "predictions"


def _block(name: str, has_shortcut: bool) -> Iterator[tuple[str, str]]:
    for position in (1, 2):
        yield "conv2d", f"{name}_{position}_conv"
        yield "batch_normalization", f"{name}_{position}_bn"
        yield "activation", f"{name}_{position}_relu"
    last = (0, 3) if has_shortcut else (3,)
    for position in last:
        yield "conv2d", f"{name}_{position}_conv"
    for position in last:
        yield "batch_normalization", f"{name}_{position}_bn"
    yield "add", f"{name}_add"
    yield "activation", f"{name}_out"
