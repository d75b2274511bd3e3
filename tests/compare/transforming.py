"""torchvision's and Keras' own transforms, told to do what ours have drawn.

torchvision's functions get Pillow images, except for erasing, mixup and cutmix, which it does with
tensors. Keras' ImageDataGenerator moves float32 arrays and rounds nothing.

Import this before keras: it chooses the backend that the comparisons install.
"""

import math
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keras.src.legacy.preprocessing import image as keras_image
from PIL import Image
from torchvision_shim import torchvision

from resnet_np.data.images import decode
from resnet_np.data.transforms import (
    CenterCrop,
    ColorJitter,
    KerasAffine,
    RandAugment,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Transform,
)
from resnet_np.data.transforms.base import RandomTransform
from resnet_np.data.transforms.colour import Steps
from resnet_np.data.transforms.geometry import FILL_MODES, Box, Erasure, Motion
from resnet_np.weights.contract import INTERPOLATIONS, SAMPLED

F = torchvision.transforms.functional
Mode = torchvision.transforms.InterpolationMode
autoaugment = torchvision.transforms.autoaugment

# Keras' numbers are not rounded to bytes, ours are: by half a step at most. Its matrix is a product
# of three with the centre in between, so that points differ in the last digits.
KERAS_ALLOWED = 0.5 + 1e-3


@dataclass(frozen=True)
class Case:
    """A transform of ours. allowed: how far another library's may differ, in steps of a byte."""

    transform: Transform
    allowed: float = 0.0

    def __str__(self) -> str:
        return repr(self.transform)

    def difference(self, image: np.ndarray, rng: np.random.Generator) -> float:
        """The largest, in steps of a byte; infinite if the shapes differ."""
        if isinstance(self.transform, RandomTransform):
            drawn = self.transform.draw(image.shape[:2], rng)
            ours = self.transform.apply(image, drawn)
        else:
            drawn, ours = None, self.transform(image, rng)
        theirs = np.asarray(THEIRS[type(self.transform)](self.transform, image, drawn))
        if ours.shape != theirs.shape:
            return math.inf
        return float(np.abs(ours.astype(np.float64) - theirs).max())


def photographs(folder: Path) -> list[np.ndarray]:
    """Eight of trashnet's, upright and lying, and eight of ImageNet's, of all shapes; and others:
    noise, a ramp, one colour, a few pixels.
    """
    images = folder / "images"
    paths = sorted((images / "trashnet" / "test").rglob("*.jpg"))[::12]
    paths += sorted((images / "imagenet-100").glob("*.JPEG"))[5::12]
    return [np.asarray(decode(path)) for path in paths] + made_up()


def made_up() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 60 * 90 * 3).reshape(60, 90, 3).astype(np.uint8)
    noise = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((97, 131), (5, 3), (331, 331))]
    return [*noise, ramp, np.full((40, 30, 3), 77, np.uint8)]


def torchvision_cases() -> Iterator[Case]:
    """All are equal to the byte."""
    transforms: list[Transform] = [Resize(232)]
    transforms += [Resize((180, 241), interpolation) for interpolation in INTERPOLATIONS]
    transforms += [CenterCrop(size) for size in (224, 500, (101, 224), (400, 90))]
    transforms += [RandomResizedCrop(224, interpolation=mode) for mode in INTERPOLATIONS]
    transforms += [RandomResizedCrop((64, 96), (0.9, 1.0), (0.4, 3.0)), RandomHorizontalFlip()]
    transforms += [RandomRotation(180, mode, (10, 200, 30)) for mode in SAMPLED]
    transforms += [ColorJitter(0.4, 0.4, 0.4, 0.1), ColorJitter(2, 2, 2, 0.5)]
    transforms += [RandAugment(4, magnitude) for magnitude in (0, 9, 20, 30)]
    transforms += [RandAugment(4, 15, 31, mode, (1, 2, 3)) for mode in SAMPLED[1:]]
    transforms += [RandomErasing(1, value=(124, 116, 104))]
    transforms += [RandomErasing(1, (0.3, 0.9), value="random")]
    return map(Case, transforms)


def keras_cases() -> Iterator[Case]:
    """Half a step of a byte lies between its numbers and ours, which are rounded."""
    for fill_mode in FILL_MODES:
        yield Case(KerasAffine(30, 0.2, 0.1, 20, 0.3, fill_mode, 128), KERAS_ALLOWED)
    for alone in (
        KerasAffine(rotation_range=180),
        KerasAffine(width_shift_range=0.5),
        KerasAffine(height_shift_range=7.5),
        KerasAffine(shear_range=45),
        KerasAffine(zoom_range=0.9),
    ):
        yield Case(alone, KERAS_ALLOWED)


def _resize(t: Resize, x: np.ndarray, drawn: None) -> Image.Image:
    return F.resize(Image.fromarray(x), t.size, Mode(t.interpolation))


def _center_crop(t: CenterCrop, x: np.ndarray, drawn: None) -> Image.Image:
    return F.center_crop(Image.fromarray(x), t.size)


def _resized_crop(t: RandomResizedCrop, x: np.ndarray, drawn: Box) -> Image.Image:
    size = t.size if isinstance(t.size, tuple) else (t.size, t.size)
    return F.resized_crop(Image.fromarray(x), *drawn, size, Mode(t.interpolation))


def _flip(t: RandomHorizontalFlip, x: np.ndarray, drawn: bool) -> Image.Image:
    return F.hflip(Image.fromarray(x)) if drawn else Image.fromarray(x)


def _rotate(t: RandomRotation, x: np.ndarray, drawn: float) -> Image.Image:
    return F.rotate(Image.fromarray(x), drawn, Mode(t.interpolation), fill=t.fill)


def _jitter(t: ColorJitter, x: np.ndarray, drawn: Steps) -> Image.Image:
    picture = Image.fromarray(x)
    for name, factor in drawn:
        picture = getattr(F, f"adjust_{name}")(picture, factor)
    return picture


def _augment(t: RandAugment, x: np.ndarray, drawn: Steps) -> Image.Image:
    picture = Image.fromarray(x)
    for name, strength in drawn:
        picture = autoaugment._apply_op(picture, name, strength, Mode(t.interpolation), t.fill)
    return picture


def _erase(t: RandomErasing, x: np.ndarray, drawn: Erasure | None) -> np.ndarray:
    if drawn is None:
        return x
    image, paint = (torch.tensor(a.transpose(2, 0, 1)) for a in (x, drawn.paint))  # -> [3, H, W]
    return F.erase(image, *drawn.box, paint).permute(1, 2, 0).numpy()


def _keras(t: KerasAffine, x: np.ndarray, drawn: Motion) -> np.ndarray:
    """Keras exchanges half the height with half the width: the shift makes up for it."""
    h, w, _ = x.shape
    a, s = math.radians(drawn.theta), math.radians(drawn.shear)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    skew = np.array([[drawn.zx, -drawn.zy * math.sin(s)], [0, drawn.zy * math.cos(s)]])
    beside = np.array([w - h, h - w]) / 2  # from its centre to the true one
    tx, ty = (drawn.tx, drawn.ty) + turn.T @ beside - skew @ beside
    return keras_image.apply_affine_transform(
        x.astype(np.float32), drawn.theta, tx, ty, drawn.shear, drawn.zx, drawn.zy,
        row_axis=0, col_axis=1, channel_axis=2, fill_mode=t.fill_mode, cval=t.cval,
    )  # fmt: skip


THEIRS: dict[type, Callable[[Any, np.ndarray, Any], Any]] = {
    Resize: _resize,
    CenterCrop: _center_crop,
    RandomResizedCrop: _resized_crop,
    RandomHorizontalFlip: _flip,
    RandomRotation: _rotate,
    ColorJitter: _jitter,
    RandAugment: _augment,
    RandomErasing: _erase,
    KerasAffine: _keras,
}
