"""Where the pixels of an image go: sizes, crops, flips, turns, shifts, and parts left out."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet_np.data.images import scale_shorter
from resnet_np.data.transforms.base import (
    RandomTransform,
    Range,
    Shape,
    Transform,
    around,
    check_image,
    colour,
    interval,
    number,
    one_of,
    refuse,
    sides,
)
from resnet_np.weights.contract import INTERPOLATIONS, SAMPLED

TRIES = 10  # to draw a rectangle that fits, in torchvision's crops and erasures
FILL_MODES = ("nearest", "constant", "reflect", "wrap")


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def slices(self) -> tuple[slice, slice]:
        """The rows and the columns inside."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class Resize(Transform):
    """Resize with antialias, as Pillow and torchvision do.

    size: pixels of the shorter side, where the longer one keeps the proportion, rounded down; or
        (height, width).
    interpolation: nearest, bilinear, bicubic, box, hamming or lanczos.
    """

    size: int | Shape
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        sides(self, "size")
        one_of(self, "interpolation", INTERPOLATIONS)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        check_image(image)
        h, w, _ = image.shape
        new = self.size if isinstance(self.size, tuple) else scale_shorter(h, w, self.size)
        return _resize(image, new, self.interpolation)


@dataclass(frozen=True)
class CenterCrop(Transform):
    """Cut `size` (pixels, or (height, width)) out of the centre.

    Where half a pixel is left over, the corner lies at the even one of the two whole pixels. An
    image that is too small gets a black frame first.
    """

    size: int | Shape

    def __post_init__(self) -> None:
        sides(self, "size")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        check_image(image)
        h, w = sides(self, "size")
        image = np.pad(image, (_frame(image.shape[0], h), _frame(image.shape[1], w), (0, 0)))
        top, left = round((image.shape[0] - h) / 2), round((image.shape[1] - w) / 2)
        return image[Box(top, left, h, w).slices()]


@dataclass(frozen=True)
class RandomResizedCrop(RandomTransform[Box]):
    """Cut out a random part and resize it. Szegedy et al. 2015, "Going deeper with convolutions",
    section 6.

    The part has the area a * H * W, a uniform in `scale`, and the aspect width / height = e^r, r
    uniform between the logarithms of `ratio`. If ten such parts do not fit into the image, it is
    the largest part around the centre whose aspect lies in `ratio`.

    size: of the result, pixels or (height, width).
    """

    size: int | Shape
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        sides(self, "size")
        _check_area(self)
        one_of(self, "interpolation", INTERPOLATIONS)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Box:
        for _ in range(TRIES):
            w, h = _draw_sides(shape, self.scale, self.ratio, rng)
            if 0 < h <= shape[0] and 0 < w <= shape[1]:
                return _place(h, w, shape, rng)
        return self._largest(*shape)

    def _largest(self, h: int, w: int) -> Box:
        low, high = self.ratio
        # At least one pixel: torchvision has no box at all where a line of pixels is cut.
        crop_h = max(1, round(w / low)) if w / h < low else h
        crop_w = max(1, round(h * high)) if w / h > high else w
        return Box((h - crop_h) // 2, (w - crop_w) // 2, crop_h, crop_w)

    def apply(self, image: np.ndarray, drawn: Box) -> np.ndarray:
        return _resize(image[drawn.slices()], sides(self, "size"), self.interpolation)


@dataclass(frozen=True)
class RandomHorizontalFlip(RandomTransform[bool]):
    """Exchange left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        number(self, "p", 0, 1)

    def draw(self, shape: Shape, rng: np.random.Generator) -> bool:
        return rng.random() < self.p

    def apply(self, image: np.ndarray, drawn: bool) -> np.ndarray:
        return image[:, ::-1] if drawn else image


@dataclass(frozen=True)
class RandomRotation(RandomTransform[float]):
    """Turn about the centre by an angle uniform in `degrees`, counter-clockwise; the size stays.

    degrees: d for -d to d, or (from, to).
    interpolation: nearest, bilinear or bicubic.
    fill: what shows in the corners, a byte or (red, green, blue).
    """

    degrees: float | Range
    interpolation: str = "nearest"
    fill: int | tuple[int, int, int] = 0

    def __post_init__(self) -> None:
        around(self, "degrees", 0)
        one_of(self, "interpolation", SAMPLED)
        colour(self, "fill")

    def draw(self, shape: Shape, rng: np.random.Generator) -> float:
        return rng.uniform(*around(self, "degrees", 0))

    def apply(self, image: np.ndarray, drawn: float) -> np.ndarray:
        resample = Image.Resampling[self.interpolation.upper()]
        turned = Image.fromarray(image).rotate(drawn, resample, fillcolor=colour(self, "fill"))
        return np.asarray(turned)


class Motion(NamedTuple):
    """How the points of a new image are moved to where they are read in the old one.

    theta, shear: degrees. tx, ty: pixels to the right and down. zx, zy: factors.
    """

    theta: float = 0.0
    tx: float = 0.0
    ty: float = 0.0
    shear: float = 0.0
    zx: float = 1.0
    zy: float = 1.0


@dataclass(frozen=True)
class KerasAffine(RandomTransform[Motion]):
    """Turn, shift, shear and zoom at once, with the ranges of Keras' ImageDataGenerator.

    The pixel at p is read, bilinearly, at c + R (S Z (p - c) + t), for p = (x, y), the centre c and

        R = [cos a  -sin a]   t = [tx]   S = [1  -sin s]   Z = [zx   0]
            [sin a   cos a]       [ty]       [0   cos s]       [ 0  zy]

    rotation_range: degrees; a is uniform in -r to r.
    width_shift_range, height_shift_range: of tx and ty. Below 1 a share of the side, uniform in -r
        to r; from 1.0 on pixels, uniform; a whole number n means whole pixels, fewer than n (so 1
        moves nothing).
    shear_range: degrees; s is uniform in -r to r.
    zoom_range: z for 1 - z to 1 + z, or (from, to); zx and zy are drawn for themselves. Numbers
        below 1 enlarge.
    fill_mode: what lies beyond the edge: "nearest" goes on with the last pixel, "constant" is
        `cval`, "reflect" a mirror, "wrap" the other side.

    In one point this is not Keras 3, which exchanges the axes when it draws shifts and takes half
    the height for half the width: there, width_shift_range shifts up and down, and an image that is
    no square is turned about a point beside its centre.
    """

    rotation_range: float = 0
    width_shift_range: float = 0
    height_shift_range: float = 0
    shear_range: float = 0
    zoom_range: float | Range = 0
    fill_mode: str = "nearest"
    cval: float = 0

    def __post_init__(self) -> None:
        for name in ("rotation_range", "width_shift_range", "height_shift_range", "shear_range"):
            number(self, name, 0)
        if around(self, "zoom_range", 1, 0)[0] == 0:
            refuse(self, "zoom_range", "a number below 1, or two above 0")
        one_of(self, "fill_mode", FILL_MODES)
        number(self, "cval", 0, 255)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Motion:
        h, w = shape
        zoom = around(self, "zoom_range", 1, 0)
        return Motion(
            theta=rng.uniform(-self.rotation_range, self.rotation_range),
            tx=_draw_shift(self.width_shift_range, w, rng),
            ty=_draw_shift(self.height_shift_range, h, rng),
            shear=rng.uniform(-self.shear_range, self.shear_range),
            zx=rng.uniform(*zoom),
            zy=rng.uniform(*zoom),
        )

    def apply(self, image: np.ndarray, drawn: Motion) -> np.ndarray:
        from scipy.ndimage import affine_transform

        a, s = math.radians(drawn.theta), math.radians(drawn.shear)
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        skew = np.array([[1, -math.sin(s)], [0, math.cos(s)]])
        matrix = (turn @ skew * (drawn.zx, drawn.zy))[::-1, ::-1]  # of (x, y) -> of (row, column)
        shift = (turn @ (drawn.tx, drawn.ty))[::-1]
        centre = (np.array(image.shape[:2]) - 1) / 2
        offset = centre - matrix @ centre + shift
        channels = np.moveaxis(image, 2, 0)  # [H, W, 3] -> [3, H, W]
        moved = [
            affine_transform(c, matrix, offset, order=1, mode=self.fill_mode, cval=self.cval)
            for c in channels
        ]
        return np.stack(moved, axis=2)  # [H, W, 3]


class Erasure(NamedTuple):
    """A rectangle, and what it is painted with: uint8 [height, width, 3] or [1, 1, 3]."""

    box: Box
    paint: np.ndarray


@dataclass(frozen=True)
class RandomErasing(RandomTransform[Erasure | None]):
    """Paint over a random rectangle. Zhong et al. 2017, "Random erasing data augmentation",
    algorithm 1.

    With probability `p`, a rectangle of area a * H * W, a uniform in `scale`, whose aspect height /
    width is e^r, r uniform between the logarithms of `ratio`. If ten of them do not fit, nothing is
    erased.

    value: a byte or (red, green, blue); or "random": each byte any of 0 to 255, as in the paper.
        torchvision erases after normalisation, where its 0 is the mean colour: here (124, 116, 104)
        for ImageNet's. Its "random" is normally distributed then.
    """

    p: float = 0.5
    scale: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)
    value: int | tuple[int, int, int] | str = 0

    def __post_init__(self) -> None:
        number(self, "p", 0, 1)
        _check_area(self)
        if self.value != "random":
            colour(self, "value", ', or "random"')

    def draw(self, shape: Shape, rng: np.random.Generator) -> Erasure | None:
        if rng.random() >= self.p:
            return None
        for _ in range(TRIES):
            h, w = _draw_sides(shape, self.scale, self.ratio, rng)
            if h < shape[0] and w < shape[1]:
                box = _place(h, w, shape, rng)
                if self.value == "random":
                    return Erasure(box, rng.integers(0, 256, (h, w, 3), np.uint8))
                return Erasure(box, np.array(colour(self, "value"), np.uint8).reshape(1, 1, 3))
        return None

    def apply(self, image: np.ndarray, drawn: Erasure | None) -> np.ndarray:
        if drawn is None:
            return image
        erased = image.copy()
        erased[drawn.box.slices()] = drawn.paint
        return erased


def _resize(image: np.ndarray, shape: Shape, interpolation: str) -> np.ndarray:
    """[H, W, 3] -> [*shape, 3]."""
    if image.shape[:2] == shape:
        return image
    h, w = shape
    resample = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(image).resize((w, h), resample))


def _frame(side: int, wanted: int) -> tuple[int, int]:
    """Pixels to add before and after a side, so that it has those that are wanted."""
    missing = max(0, wanted - side)
    return missing // 2, missing - missing // 2


def _check_area(owner: RandomResizedCrop | RandomErasing) -> None:
    interval(owner, "scale", 0, 1)
    if interval(owner, "ratio", 0)[0] == 0:
        refuse(owner, "ratio", "two numbers above 0, the smaller first")


def _draw_sides(shape: Shape, scale: Range, ratio: Range, rng: np.random.Generator) -> Shape:
    """Two sides whose product is an area in `scale` of the image, and whose quotient in `ratio`."""
    area = shape[0] * shape[1] * rng.uniform(*scale)
    quotient = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(area * quotient)), round(math.sqrt(area / quotient))


def _place(h: int, w: int, shape: Shape, rng: np.random.Generator) -> Box:
    """A box of h x w pixels anywhere in the image."""
    top, left = rng.integers(shape[0] - h + 1), rng.integers(shape[1] - w + 1)
    return Box(int(top), int(left), h, w)


def _draw_shift(reach: float, side: int, rng: np.random.Generator) -> float:
    """Pixels. See `width_shift_range`."""
    if isinstance(reach, int) and reach > 0:
        return float(rng.integers(reach) * rng.choice([-1, 1]))
    return rng.uniform(-reach, reach) * (side if reach < 1 else 1)
