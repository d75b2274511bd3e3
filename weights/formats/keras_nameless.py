"""Which layer is which in a `.weights.h5` of Keras 2.12 to 3.2, where layers carry no names.

They are numbered within their class instead: `conv2d`, `conv2d_1`, ... in the order of
`model.layers`, which lists the first block of a stage as 1, 2, 0, 3 (0 is the shortcut). That is
enough for the network that keras.applications builds and for no other one, so every shape is
compared with the one that is due there.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from resnet_np.weights import names

Shape = tuple[int, ...]
Groups = Mapping[str, Mapping[str, np.ndarray]]


def find_names(groups: Groups) -> dict[str, str]:
    """{path of a layer: its name}, e.g. {"layers/conv2d_1": "conv2_block1_1_conv"}.

    groups: for each layer's path its numbered arrays, as in {"layers/conv2d": {"0": kernel, ...}}.
    Raises ValueError if no model among them is a ResNet-50, 101 or 152 (v1), or more than one is.
    """
    models: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in groups:
        model, _, layer = path.rpartition("/")
        models[model][re.sub(r"_\d+$", "", layer)] += 1
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
