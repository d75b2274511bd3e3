"""Which name means which layer: torchvision's names, and other libraries' names for the same.

Everything follows from the number of blocks in each stage. A bottleneck block holds three
convolutions, each followed by a batch norm; the first block of a stage has one more pair in its
shortcut:

    torchvision   conv1                    layer2.0.conv3      layer2.0.downsample.0   fc
    Keras         conv1_conv               conv3_block1_3_conv conv3_block1_0_conv     predictions
    older Keras   conv1, bn_conv1          res3a_branch2c      res3a_branch1           fc1000

Hugging Face's names count from 0 and follow its modules (a block of two convolutions likewise):

    resnet.embedder.embedder.convolution                      (conv1; .normalization is bn1)
    resnet.encoder.stages.1.layers.0.layer.2.convolution      (layer2.0.conv3)
    resnet.encoder.stages.1.layers.0.shortcut.convolution     (layer2.0.downsample.0)
    classifier.1                                              (fc)
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_DEPTHS = (50, 101, 152)

# What a module of each kind holds, and the rank of each tensor.
RANKS = {
    "conv": {"weight": 4, "bias": 1},
    "bn": {"weight": 1, "bias": 1, "running_mean": 1, "running_var": 1},
    "fc": {"weight": 2, "bias": 1},
}

_N = r"(0|[1-9][0-9]{0,2})"  # as many blocks or layers as nobody has

_KINDS = {
    "conv": re.compile(rf"conv1|layer[1-4]\.{_N}\.(conv[123]|downsample\.0)"),
    "bn": re.compile(rf"bn1|layer[1-4]\.{_N}\.(bn[123]|downsample\.1)"),
    "fc": re.compile(rf"fc(\.{_N})?"),
}


def kind(module: str) -> str | None:
    """ "conv", "bn" or "fc" for a torchvision module name, None if it is no such name."""
    return next((k for k, pattern in _KINDS.items() if pattern.fullmatch(module)), None)


def head_layers(tensor_names: Iterable[str]) -> list[str]:
    """The linear layers of a head from first to last: fc, or fc.0, fc.3, ..., fc.12."""
    modules = {name.removesuffix(".weight") for name in tensor_names if name.endswith(".weight")}
    head = [module for module in modules if kind(module) == "fc"]
    return sorted(head, key=lambda module: int(module.partition(".")[2] or 0))


def norm_after(conv: str) -> str:
    """The batch norm behind a convolution: layer1.0.conv2 -> layer1.0.bn2."""
    if conv.endswith("downsample.0"):
        return conv.removesuffix("0") + "1"
    return conv.replace("conv", "bn")


def conv_after(conv: str) -> str | None:
    """The weight of the convolution behind one of a block: layer1.0.conv2.weight for conv1's."""
    stem, _, position = conv.rpartition(".conv")
    return f"{stem}.conv{int(position) + 1}.weight" if stem and position else None


def bottleneck_positions(depth: int) -> Iterator[tuple[int, int, int]]:
    """(stage 1.., block 0.., position) of every convolution in blocks; position 0 = shortcut."""
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(blocks):
            for position in range(0 if block == 0 else 1, 4):
                yield stage, block, position


def keras_names(depth: int) -> dict[str, str]:
    """Keras layer -> torchvision module, as keras.applications names them.

    The names for depth 50 are among those for 101, and these among those for 152.
    """
    table = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}
    for stage, block, position in bottleneck_positions(depth):
        conv = _torchvision_conv(stage, block, position)
        keras = f"conv{stage + 1}_block{block + 1}_{position}"
        table |= {f"{keras}_conv": conv, f"{keras}_bn": norm_after(conv)}
    return table


def keras1_names() -> dict[str, str]:
    """Keras layer -> torchvision module, as the first published ResNet-50 named them."""
    table = {"conv1": "conv1", "bn_conv1": "bn1", "fc1000": "fc"}
    branches = ("1", "2a", "2b", "2c")
    for stage, block, position in bottleneck_positions(50):
        conv = _torchvision_conv(stage, block, position)
        keras = f"{stage + 1}{'abcdef'[block]}_branch{branches[position]}"
        table |= {f"res{keras}": conv, f"bn{keras}": norm_after(conv)}
    return table


def hugging_face_names() -> dict[str, str]:
    """Hugging Face's module -> torchvision's, whatever the depth and the kind of block."""
    convs = {"resnet.embedder.embedder": "conv1"}
    for stage, block, position in product(range(4), range(max(BLOCKS[152])), range(4)):
        place = f"layer.{position - 1}" if position else "shortcut"
        place = f"resnet.encoder.stages.{stage}.layers.{block}.{place}"
        convs[place] = _torchvision_conv(stage + 1, block, position)
    table = {"classifier.1": "fc"}
    for place, conv in convs.items():
        table[f"{place}.convolution"] = conv
        table[f"{place}.normalization"] = norm_after(conv)
    return table


def _torchvision_conv(stage: int, block: int, position: int) -> str:
    return f"layer{stage}.{block}." + (f"conv{position}" if position else "downsample.0")


def count_blocks(names: Iterable[str]) -> tuple[tuple[int, ...], bool]:
    """How many blocks the four stages have by these tensor names, and whether of three
    convolutions. A stage whose blocks are not numbered 0, 1, ... counts as -1."""
    blocks: list[set[int]] = [set(), set(), set(), set()]
    bottleneck = False
    for name in names:
        if found := re.match(rf"layer([1-4])\.{_N}\.(conv3)?", name):
            blocks[int(found[1]) - 1].add(int(found[2]))
            bottleneck = bottleneck or found[3] is not None
    return tuple(len(b) if b == set(range(len(b))) else -1 for b in blocks), bottleneck


def find_depth(names: Iterable[str]) -> int | None:
    """The depth whose numbers of blocks these tensor names have, or None."""
    counts, bottleneck = count_blocks(names)
    return next(
        (d for d, n in BLOCKS.items() if n == counts and (d in BOTTLENECK_DEPTHS) == bottleneck),
        None,
    )
