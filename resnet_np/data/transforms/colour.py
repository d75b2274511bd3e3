"""Other colours: jitter, and RandAugment, which mixes colours with geometry."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from resnet_np.data.transforms.base import (
    RandomTransform,
    Range,
    Shape,
    around,
    colour,
    one_of,
    whole,
)
from resnet_np.weights.contract import SAMPLED

Steps = tuple[tuple[str, float], ...]  # what to do, how strongly, in this order

# Of each adjustment the factor that changes nothing, the least and the greatest.
FACTORS = {
    "brightness": (1.0, 0.0, math.inf),
    "contrast": (1.0, 0.0, math.inf),
    "saturation": (1.0, 0.0, math.inf),
    "hue": (0.0, -0.5, 0.5),
}

MOST_OPERATIONS = 100


@dataclass(frozen=True)
class ColorJitter(RandomTransform[Steps]):
    """Change brightness, contrast, saturation and hue by random factors, in a random order.

    brightness, contrast, saturation: x for a factor uniform in 1 - x (at least 0) to 1 + x, or
        (from, to). With the factor f a byte b becomes f * b + (1 - f) * c, where c is 0 for
        brightness, the mean grey of the image for contrast, the pixel's own grey for saturation.
    hue: x for -x to x, or (from, to), at most half of the colour circle, which is 1.
    """

    brightness: float | Range = 0
    contrast: float | Range = 0
    saturation: float | Range = 0
    hue: float | Range = 0

    def __post_init__(self) -> None:
        for name, limits in FACTORS.items():
            around(self, name, *limits)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Steps:
        ranges = {name: around(self, name, *limits) for name, limits in FACTORS.items()}
        factors = [(name, rng.uniform(*ranges[name])) for name in FACTORS]
        drawn = [factors[i] for i in rng.permutation(len(factors))]
        return tuple((name, f) for name, f in drawn if ranges[name] != (FACTORS[name][0],) * 2)

    def apply(self, image: np.ndarray, drawn: Steps) -> np.ndarray:
        picture = Image.fromarray(image)
        for name, factor in drawn:
            picture = RECOLOUR[name](picture, factor)
        return np.asarray(picture)


@dataclass(frozen=True)
class RandAugment(RandomTransform[Steps]):
    """Do `num_ops` of fourteen random things, one after the other. Cubuk et al. 2019, "RandAugment:
    practical automated data augmentation with a reduced search space", section 3.

    magnitude: how strongly, from 0 to num_magnitude_bins - 1. `strengths` says what that means.
    interpolation, fill: of what turns and shifts, as of RandomRotation.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: int | tuple[int, int, int] = 0

    def __post_init__(self) -> None:
        whole(self, "num_ops", 0, MOST_OPERATIONS)
        whole(self, "num_magnitude_bins", 2, 1000)
        whole(self, "magnitude", 0, self.num_magnitude_bins - 1)
        one_of(self, "interpolation", SAMPLED)
        colour(self, "fill")

    def strengths(self, shape: Shape) -> dict[str, float]:
        """How strongly each operation acts: torchvision's table, which has the paper's names.

        Shears are pixels per pixel, translations pixels, a rotation degrees. Brightness to
        Sharpness are what is added to a factor of 1. Posterize leaves so many bits; Solarize turns
        over bytes from there on. The rest has no strength. Of all the others, shears to Sharpness,
        the sign is drawn.
        """
        h, w = shape
        steps = self.num_magnitude_bins - 1
        greatest = {
            "ShearX": 0.3,
            "ShearY": 0.3,
            "TranslateX": 150 / 331 * w,
            "TranslateY": 150 / 331 * h,
            "Rotate": 30.0,
            "Brightness": 0.9,
            "Color": 0.9,
            "Contrast": 0.9,
            "Sharpness": 0.9,
        }
        return {
            **{name: most * self.magnitude / steps for name, most in greatest.items()},
            "Posterize": 8 - round(self.magnitude / (steps / 4)),
            "Solarize": 255 - 255 * self.magnitude / steps,
            "AutoContrast": 0.0,
            "Equalize": 0.0,
            "Identity": 0.0,
        }

    def draw(self, shape: Shape, rng: np.random.Generator) -> Steps:
        strengths = self.strengths(shape)
        names = list(strengths)
        steps = []
        for _ in range(self.num_ops):
            name = names[rng.integers(len(names))]
            sign = rng.choice([-1, 1]) if name not in UNSIGNED else 1
            steps.append((name, float(sign * strengths[name])))
        return tuple(steps)

    def apply(self, image: np.ndarray, drawn: Steps) -> np.ndarray:
        picture = Image.fromarray(image)
        resample, fill = Image.Resampling[self.interpolation.upper()], colour(self, "fill")
        for name, strength in drawn:
            if name in MATRICES:
                matrix = MATRICES[name](strength)
                picture = picture.transform(
                    picture.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill
                )
            elif name == "Rotate":
                picture = picture.rotate(strength, resample, fillcolor=fill)
            else:
                picture = RECOLOUR[name](picture, strength)
        return np.asarray(picture)


def _shift_hue(picture: Image.Image, hue: float) -> Image.Image:
    """Turn the colour circle by `hue`, in whole circles. Hue is a byte, which wraps around."""
    h, s, v = picture.convert("HSV").split()
    turned = (np.asarray(h).astype(int) + int(hue * 255)).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert("RGB")


def _angle(slope: float) -> float:
    """The angle of a shear, by way of degrees, as in torchvision.

    Its last digit matters: Pillow cuts what it has interpolated down to whole bytes.
    """
    return math.radians(math.degrees(math.atan(slope)))


# x, y of the new image -> where it is read in the old one: (a, b, c, d, e, f) for the point
# (a x + b y + c, d x + e y + f).
MATRICES: dict[str, Callable[[float], tuple[float, ...]]] = {
    "ShearX": lambda m: (1, math.tan(_angle(m)), 0, 0, 1, 0),
    "ShearY": lambda m: (1, 0, 0, math.sin(_angle(m)) / math.cos(_angle(m)), 1, 0),
    "TranslateX": lambda m: (1, 0, -int(m), 0, 1, 0),
    "TranslateY": lambda m: (1, 0, 0, 0, 1, -int(m)),
}

RECOLOUR: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "brightness": lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
    "contrast": lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    "saturation": lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    "hue": _shift_hue,
    "Brightness": lambda picture, m: ImageEnhance.Brightness(picture).enhance(1 + m),
    "Contrast": lambda picture, m: ImageEnhance.Contrast(picture).enhance(1 + m),
    "Color": lambda picture, m: ImageEnhance.Color(picture).enhance(1 + m),
    "Sharpness": lambda picture, m: ImageEnhance.Sharpness(picture).enhance(1 + m),
    "Posterize": lambda picture, m: ImageOps.posterize(picture, int(m)),
    "Solarize": lambda picture, m: ImageOps.solarize(picture, m),  # type: ignore[arg-type]
    "AutoContrast": lambda picture, m: ImageOps.autocontrast(picture),
    "Equalize": lambda picture, m: ImageOps.equalize(picture),
    "Identity": lambda picture, m: picture,
}

UNSIGNED = ("Posterize", "Solarize", "AutoContrast", "Equalize", "Identity")
