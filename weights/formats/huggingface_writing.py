"""Write a folder that Hugging Face's library, transformers, loads with `from_pretrained`."""

import json
from dataclasses import replace

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights import facts, layout, names
from resnet_np.weights.adapt import adapt
from resnet_np.weights.atomic import atomic_folder
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.huggingface import (
    CONFIG,
    EPS,
    IMAGES,
    MAX_JSON,
    REQUIRED,
    TENSORS,
    Record,
    describe,
)
from resnet_np.weights.formats.huggingface_images import write_contract
from resnet_np.weights.formats.safetensors_file import to_safetensors
from resnet_np.weights.structure import pooling_of, structure_of

TO_RGB = (
    "the channels of the first convolution, and of mean and std, were put in the order red, green,"
    " blue, in which transformers gives them, instead of blue, green, red: the outputs are the same"
)


def write_folder(path: str, file: WeightFile) -> list[str]:
    """A folder for ResNetForImageClassification, or for ResNetModel if there is no head.

    The library's networks have the epsilon 1e-5 and no biases, and its images come in RGB; weights
    that have it otherwise are adapted.

    Raises UserError for a network that the library does not have (hidden layers in the head), and
    if the folder is there already and holds other things than such a network.
    """
    file, notes = _to_rgb(file)
    adapted, more = adapt(file, bn_eps=EPS, conv_bias=False)
    _check(path, adapted)
    images, losses = write_contract(adapted.contract)
    with atomic_folder(path, (CONFIG, IMAGES, TENSORS)) as folder:
        (folder / TENSORS).write_bytes(to_safetensors(_tensors(adapted), {"format": "pt"}))
        for name, record in ((CONFIG, _config(adapted)), (IMAGES, images)):
            text = json.dumps(record, indent=2) + "\n"
            if len(text) > MAX_JSON:
                raise UserError(
                    f"{path}: its class names take too much room: a {name} of {len(text)} letters,"
                    f" where {MAX_JSON} are read again"
                )
            (folder / name).write_text(text, encoding="ascii")
    return notes + more + losses


def _to_rgb(file: WeightFile) -> tuple[WeightFile, list[str]]:
    if file.contract.color == "RGB" or "conv1.weight" not in file.arrays:
        return file, []
    contract = replace(
        file.contract, color="RGB", mean=file.contract.mean[::-1], std=file.contract.std[::-1]
    )
    turned = np.ascontiguousarray(file.arrays["conv1.weight"][:, :, ::-1])  # [R, S, C, K]
    return replace(file, arrays=file.arrays | {"conv1.weight": turned}, contract=contract), [TO_RGB]


def _check(path: str, file: WeightFile) -> None:
    """The blocks that the library builds: shortcuts only where needed, inner widths a quarter."""
    structure = structure_of(file)
    cannot = f"{path}: transformers' ResNet cannot hold the weights of {file.path}"
    if len(structure.head) > 1 or structure.head not in ((), ("fc",)):
        raise UserError(f"{cannot}: its head is one layer; .onnx and .pth take hidden ones")
    if structure.head and pooling_of(file) != "avg":
        raise UserError(f"{cannot}: its head takes the mean of the image; .onnx has others, too")
    widths = [file.arrays[f"{block.name}.conv1.weight"].shape for block in structure.blocks]
    for block, (_, _, before, inner) in zip(structure.blocks, widths, strict=True):
        after = file.arrays[f"{block.units[-1].conv}.weight"].shape[-1]
        needed = before != after or any(unit.stride > 1 for unit in block.units)
        if (block.shortcut is not None) != needed:
            raise UserError(f"{cannot}: {block.name} has a shortcut where that has none")
        if inner != (after // 4 if len(block.units) == 3 else after):
            raise UserError(f"{cannot}: {block.name} has {inner} channels inside and {after} after")


def _config(file: WeightFile) -> Record:
    head = file.arrays.get("fc.weight")
    labels = [] if head is None else file.classes or [f"LABEL_{i}" for i in range(head.shape[-1])]
    return {
        "architectures": ["ResNetModel" if head is None else "ResNetForImageClassification"],
        "model_type": "resnet",
        **describe(file.arrays),
        **REQUIRED,
        "downsample_in_bottleneck": file.variant == "v1",
        "torch_dtype": file.arrays["conv1.weight"].dtype.name,
        **({} if head is None else {"id2label": {str(i): name for i, name in enumerate(labels)}}),
        **({} if head is None else {"label2id": {name: i for i, name in enumerate(labels)}}),
        facts.KEY: {"contract": file.contract.to_record()},
    }


def _tensors(file: WeightFile) -> dict[str, np.ndarray]:
    """Their names and layout; a batch norm there also counts the batches it has seen."""
    theirs = {ours: name for name, ours in names.hugging_face_names().items()}
    trunk = "resnet." if "fc.weight" not in file.arrays else ""
    tensors = {}
    for name, array in file.arrays.items():
        module, _, leaf = name.rpartition(".")
        tensors[f"{theirs[module].removeprefix(trunk)}.{leaf}"] = layout.to_torch(array)
        if leaf == "running_var":
            counter = f"{theirs[module].removeprefix(trunk)}.num_batches_tracked"
            tensors[counter] = np.array(0, np.int64)
    return tensors
