"""Which layer is which in a `.weights.h5` of Keras 2 or early Keras 3: its layers carry no names.

They are numbered within their class instead: `conv2d`, `conv2d_1`, ... in the order of
`model.layers`, which lists the first block of a stage as 1, 2, 0, 3 (0 is the shortcut). That is
enough for the network that keras.applications builds and for no other one, so every shape is
compared with the one that is due there.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from resnet_np.weights import names

Shape = tuple[int, ...]
Groups = Mapping[str, Mapping[str, np.ndarray]]


OLD_LAYERS = "_layer_checkpoint_dependencies"
"""What Keras 2.12 to 2.14 called `layers`."""


def current_paths(paths: Iterable[str]) -> dict[str, str]:
    """{path as later versions write it: path in the file} of layers that hold variables.

    Where `layers` was OLD_LAYERS, it listed a layer with variables twice and counted it twice:
    `conv2d`, `conv2d_2`, `conv2d_4`. There it is the rank of the number that counts.
    """
    members: dict[tuple[str, str], set[str]] = defaultdict(set)  # {(model, class): its layers}
    split = {path: path.split("/") for path in paths}
    for parts in split.values():
        for i in range(1, len(parts)):
            if parts[i - 1] == OLD_LAYERS:
                members["/".join(parts[:i]), _numbered(parts[i])[0]].add(parts[i])
    current = {OLD_LAYERS: "layers"}  # {path or last part of it: what the last part is called now}
    for (model, name), layers in members.items():
        for rank, layer in enumerate(sorted(layers, key=_numbered)):
            current[f"{model}/{layer}"] = f"{name}_{rank}" if rank else name
    return {
        "/".join(
            current.get("/".join(parts[: i + 1])) or current.get(part, part)
            for i, part in enumerate(parts)
        ): path
        for path, parts in split.items()
    }


def _numbered(layer: str) -> tuple[str, int]:
    """conv2d_7 -> ("conv2d", 7), and conv2d -> ("conv2d", 0)."""
    name, _, number = layer.rpartition("_")
    is_numbered = name and number.isdecimal() and len(number) < 10
    return (name, int(number)) if is_numbered else (layer, 0)


def find_names(groups: Groups) -> dict[str, str]:
    """{path of a layer: its name}, e.g. {"layers/conv2d_1": "conv2_block1_1_conv"}.

    groups: for each layer's path its numbered arrays, as in {"layers/conv2d": {"0": kernel, ...}}.
    Raises ValueError if no model among them is a ResNet-50, 101 or 152 (v1), or more than one is.
    """
    models: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in groups:
        model, _, layer = path.rpartition("/")
        models[model][_numbered(layer)[0]] += 1
    found = [model for model, counts in models.items() if _depth(counts) is not None]
    if len(found) != 1:
        raise ValueError(f"{len(found)} of its models have the numbers of layers of one")
    depth = _depth(models[found[0]])
    assert depth is not None
    return dict(_names(groups, f"{found[0]}/", depth))


def _depth(counts: Mapping[str, int]) -> int | None:
    """The depth with so many convolutions (all but the head), each with a batch norm."""
    for depth in names.BOTTLENECK_DEPTHS:
        convolutions = depth - 1 + 4
        if counts["conv2d"] == counts["batch_normalization"] == convolutions:
            return depth
    return None


def _names(groups: Groups, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    stem = groups.get(f"{prefix}conv2d", {}).get("0")
    width = stem.shape[-1] if stem is not None and stem.ndim else 0
    for index, (name, kernel) in enumerate(_standard(depth, width)):
        number = f"_{index}" if index else ""
        channels = kernel[-1:]
        for kind, layer, shapes in (
            ("conv", f"{prefix}conv2d{number}", [kernel, channels]),
            ("bn", f"{prefix}batch_normalization{number}", [channels] * 4),
        ):
            due = {str(i): shape for i, shape in enumerate(shapes)}
            there = {key: array.shape for key, array in groups.get(layer, {}).items()}
            if there != due:
                raise ValueError(f"{layer!r} has not the shapes of {name}_{kind}")
            yield layer, f"{name}_{kind}"


def _standard(depth: int, width: int) -> Iterator[tuple[str, Shape]]:
    """(name without _conv or _bn, kernel [R, S, C, K]) in the order of `model.layers`."""
    yield "conv1", (7, 7, 3, width)
    c = width
    for stage, blocks in enumerate(names.BLOCKS[depth], start=2):
        k = width << (stage - 2)
        for block in range(1, blocks + 1):
            kernels = {1: (1, 1, c, k), 2: (3, 3, k, k), 0: (1, 1, c, 4 * k), 3: (1, 1, k, 4 * k)}
            if block > 1:
                del kernels[0]
            for position, kernel in kernels.items():
                yield f"conv{stage}_block{block}_{position}", kernel
            c = 4 * k
