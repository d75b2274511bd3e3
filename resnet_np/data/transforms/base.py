"""What all transforms share: how they are called, where their randomness comes from, and checks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.contract import LARGEST_IMAGE

Drawn = TypeVar("Drawn")
Shape = tuple[int, int]  # H, W
Range = tuple[float, float]

IMAGES, BATCHES = 0, 1  # two families of generators, so that none of one is one of the other


def image_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator for one image in one epoch. `index`: its place in the data set.

    Different numbers give independent streams, also independent of `default_rng(seed)`, which
    orders the epochs (NumPy's SeedSequence and its spawn keys). Seeds have up to 128 bits, epochs
    and indices up to 32.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(IMAGES, epoch, index)))


def batch_rng(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """The generator for what happens to a whole batch, such as mixup. `batch`: its number."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(BATCHES, epoch, batch)))


class Transform(ABC):
    """An image in, an image out: `t(image, rng)`, uint8 [H, W, 3] -> uint8 [h, w, 3], RGB.

    Images are arrays, as everywhere in this package. Where pixels are resampled or recoloured,
    Pillow does it, which torchvision uses as well: so the bytes are the same.
    The image that comes in is never written to; what comes out may be a view of it.
    """

    @abstractmethod
    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed image. Raises ValueError if `image` is no uint8 [H, W, 3]."""


class RandomTransform(Transform, Generic[Drawn]):
    """A transform in two steps: draw what to do, then do it.

    So one can be told what to do, and do exactly what another library was told to do.
    """

    @abstractmethod
    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn:
        """What to do to an image of this height and width."""

    @abstractmethod
    def apply(self, image: np.ndarray, drawn: Drawn) -> np.ndarray:
        """Do it. Nothing is random here."""

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        check_image(image)
        return self.apply(image, self.draw(image.shape[:2], rng))


@dataclass(frozen=True)
class Compose(Transform):
    """One transform after the other. They share the generator, in their order."""

    transforms: Sequence[Transform]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        check_image(image)
        for transform in self.transforms:
            image = transform(image, rng)
        return image


def check_image(image: np.ndarray) -> None:
    """Raise ValueError if this is not uint8 [H, W, 3]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")


# --- checks of arguments: each reads the field `name` of a transform, and raises UserError --------


def refuse(owner: object, name: str, wanted: str) -> NoReturn:
    """Raise the UserError that says which argument of which transform is wrong."""
    value = getattr(owner, name)
    raise UserError(f"{type(owner).__name__}: {name} must be {wanted}, not {value!r}")


def number(
    owner: object, name: str, low: float = -math.inf, high: float = math.inf, extra: str = ""
) -> float:
    """The field as a number between `low` and `high`. extra: what else it might have been."""
    value = getattr(owner, name)
    if not (_is_number(value) and low <= value <= high):
        refuse(owner, name, f"a number{_bounds(low, high)}{extra}")
    return value


def whole(owner: object, name: str, low: int, high: int) -> int:
    """The field as a whole number from `low` to `high`."""
    value = getattr(owner, name)
    if not (_is_whole(value) and low <= value <= high):
        refuse(owner, name, f"a whole number from {low} to {high}")
    return value


def interval(
    owner: object, name: str, low: float = -math.inf, high: float = math.inf, extra: str = ""
) -> Range:
    """The field as two numbers, the smaller first. extra: what else it might have been."""
    value = getattr(owner, name)
    two = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
    if not (two and low <= value[0] <= value[1] <= high):
        refuse(owner, name, f"two numbers, the smaller first,{_bounds(low, high)}{extra}")
    return value


def around(
    owner: object, name: str, centre: float, low: float = -math.inf, high: float = math.inf
) -> Range:
    """The field as a range: the number x means centre - x (at least `low`) to centre + x."""
    value = getattr(owner, name)
    if isinstance(value, tuple):
        return interval(owner, name, low, high)
    x = number(owner, name, 0.0, high - centre, ", or a pair (from, to)")
    return max(low, centre - x), centre + x


def sides(owner: object, name: str) -> Shape:
    """The field as (height, width): one whole number for a square, or a pair."""
    value = getattr(owner, name)
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(_is_whole(side) and 0 < side <= LARGEST_IMAGE for side in pair):
        refuse(owner, name, f"pixels, or (height, width), from 1 to {LARGEST_IMAGE}")
    return pair


def colour(owner: object, name: str, extra: str = "") -> tuple[int, int, int]:
    """The field as red, green, blue: one byte for grey, or three. extra: what else it might be."""
    value = getattr(owner, name)
    three = value if isinstance(value, tuple) else (value, value, value)
    if len(three) != 3 or not all(_is_whole(byte) and 0 <= byte <= 255 for byte in three):
        refuse(owner, name, f"a whole number from 0 to 255, or three{extra}")
    return three


def one_of(owner: object, name: str, known: Sequence[str]) -> str:
    """The field as one of these words."""
    value = getattr(owner, name)
    if value not in known:
        refuse(owner, name, f"one of {', '.join(known)}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bounds(low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f" from {low:g} to {high:g}"
    return f" of {low:g} or more" if math.isfinite(low) else ""
