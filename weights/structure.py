"""The network that a set of weights is for, as its names and shapes tell, without the network.

    stem     conv1, bn1
    blocks   layer1.0, layer1.1, ..., layer4.2: two or three convolutions and perhaps a shortcut
    head     fc, or fc.0, fc.3, ... where it has hidden layers

Any number of blocks in each of the four stages, and any widths.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from resnet_np.errors import UserError, some
from resnet_np.weights import names
from resnet_np.weights.file import WeightFile


@dataclass(frozen=True)
class Unit:
    """A convolution of `size` x `size`, padded by size // 2, and the batch norm behind it."""

    conv: str
    size: int
    stride: int = 1

    @property
    def norm(self) -> str:
        return names.norm_after(self.conv)


@dataclass(frozen=True)
class Block:
    """Units one after the other; their input, or what `shortcut` makes of it, is added."""

    name: str
    units: tuple[Unit, ...]
    shortcut: Unit | None


@dataclass(frozen=True)
class Structure:
    stem: Unit
    blocks: tuple[Block, ...]
    head: tuple[str, ...]


def structure_of(file: WeightFile) -> Structure:
    """What is computed with these arrays, in order.

    Raises UserError, listing what is wrong, if they are not all of one such network and nothing
    else, or if v1 and v1.5 would differ and the file does not say which it is.
    """
    found = Structure(Unit("conv1", 7, 2), tuple(_blocks(file)), tuple(_head(file)))
    if problems := list(_misfits(file, found)):
        raise UserError(f"{file.path}: not one whole ResNet: {some(problems, '; ')}", problems)
    return found


def check_whole(file: WeightFile, head: bool = True) -> None:
    """Raises UserError as `structure_of` does, for either variant. Without `head`, for the rest."""
    arrays = {n: a for n, a in file.arrays.items() if head or not n.startswith("fc.")}
    structure_of(replace(file, arrays=arrays, variant=file.variant or "v1.5"))


def pooling_of(file: WeightFile) -> str | None:
    """What lies between blocks and head: "avg", "max", or None if nothing does.

    Only one of our own checkpoints may have another than the mean over the image. Raises UserError
    if its record says something else.
    """
    pooling = dict((file.record or {}).get("model", {})).get("pooling", "avg")
    if pooling not in ("avg", "max", None):
        raise UserError(f"{file.path}: its record is damaged (there is no pooling {pooling!r})")
    return pooling


def _blocks(file: WeightFile) -> Iterator[Block]:
    bottleneck = any(name.endswith("conv3.weight") for name in file.arrays)
    if bottleneck and file.variant is None:
        raise UserError(
            f"{file.path}: does not say whether it is for the v1 or the v1.5 network, whose tensors"
            ' have the same shapes: the variant must be said, as in variant="v1.5" (--variant v1.5)'
        )
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    strided = 1 if bottleneck and file.variant == "v1.5" else 0
    for stage in (1, 2, 3, 4):
        for j in range(_count(file, stage)):
            name, stride = f"layer{stage}.{j}", 2 if stage > 1 and j == 0 else 1
            units = tuple(
                Unit(f"{name}.conv{i + 1}", size, stride if i == strided else 1)
                for i, size in enumerate(sizes)
            )
            conv = f"{name}.downsample.0"
            has_shortcut = f"{conv}.weight" in file.arrays or stride == 2
            yield Block(name, units, Unit(conv, 1, stride) if has_shortcut else None)


def _count(file: WeightFile, stage: int) -> int:
    """How many blocks a stage has, at least one."""
    matches = (re.match(rf"layer{stage}\.(\d+)\.", name) for name in file.arrays)
    return len({match[1] for match in matches if match} | {"0"})


def _head(file: WeightFile) -> list[str]:
    """The one layer of the head; or fc.0, fc.3, ...: ReLU and dropout lie between."""
    modules = [name.removesuffix(".weight") for name in file.arrays if name.endswith(".weight")]
    layers = [module for module in modules if names.kind(module) == "fc"]
    if len(layers) < 2:
        return layers
    return [f"fc.{3 * i}" for i in range(len(layers))]


def _misfits(file: WeightFile, found: Structure) -> Iterator[str]:
    """What is missing, what is left over; or else which shapes do not go on."""
    shapes = _shapes(file, found)
    if missing := sorted(set(shapes) - set(file.arrays)):
        yield f"it lacks {some(missing)}"
    if others := sorted(set(file.arrays) - set(shapes)):
        yield f"it has no place for {some(others)}"
    if not missing and not others:
        for name, shape in shapes.items():
            if file.arrays[name].shape != shape:
                yield f"{name} is {list(file.arrays[name].shape)} instead of {list(shape)}"


def _shapes(file: WeightFile, found: Structure) -> dict[str, tuple[int, ...]]:
    """Every tensor and its shape, given how many channels each layer makes."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(module: str, *taken: int) -> int:
        w = file.arrays.get(f"{module}.weight")
        made = 0 if w is None else w.shape[-1]
        shapes[f"{module}.weight"] = (*taken, made)
        if f"{module}.bias" in file.arrays:
            shapes[f"{module}.bias"] = (made,)
        return made

    def unit(unit: Unit, channels: int) -> int:
        made = layer(unit.conv, unit.size, unit.size, channels)
        shapes.update({f"{unit.norm}.{leaf}": (made,) for leaf in names.RANKS["bn"]})
        return made

    channels = unit(found.stem, 3)
    for block in found.blocks:
        before = channels
        for part in block.units:
            channels = unit(part, channels)
        if block.shortcut:
            unit(block.shortcut, before)
        if block.shortcut or before != channels:  # the two are added
            shapes[f"{block.name}.downsample.0.weight"] = (1, 1, before, channels)
    for module in found.head:
        channels = layer(module, channels)
    return shapes
