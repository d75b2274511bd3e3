"""Two images of a batch become one, and so do their targets: mixup and cutmix."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

import numpy as np

from resnet_np.data.transforms.base import Drawn, Shape, number
from resnet_np.data.transforms.geometry import Box

LARGEST_ALPHA = 1000


class BatchTransform(ABC, Generic[Drawn]):
    """A batch in, a batch out: `t(images, targets, rng)` -> (images, targets).

    images: floating-point [N, H, W, C], after normalisation or before. targets: floating-point
    [N, K], a row of class probabilities for each image, such as one-hot rows. Image i is mixed with
    image i - 1, the first with the last: in a batch in random order that is any other one.
    """

    def __call__(
        self, images: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """New arrays of the same shapes. Raises ValueError for other shapes, and for bytes."""
        n = len(images)
        if images.ndim != 4 or targets.ndim != 2 or len(targets) != n or n == 0:
            raise ValueError(
                f"images must be [N, H, W, C] and targets [N, K], not {list(images.shape)} and "
                f"{list(targets.shape)}"
            )
        if images.dtype.kind != "f" or targets.dtype.kind != "f":
            raise ValueError(
                f"images and targets must be floating-point, not {images.dtype}, {targets.dtype}"
            )
        h, w = images.shape[1:3]
        return self.apply(images, targets, self.draw((h, w), rng))

    @abstractmethod
    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn:
        """How to mix a batch of images of this height and width."""

    @abstractmethod
    def apply(
        self, images: np.ndarray, targets: np.ndarray, drawn: Drawn
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix so. Nothing is random here."""


@dataclass(frozen=True)
class MixUp(BatchTransform[float]):
    """Blend each image of a batch with another one, and their targets in the same proportion.

    x_i becomes l x_i + (1 - l) x_(i-1), with one l for the batch, from Beta(alpha, alpha).

    Zhang et al. 2017, "mixup: beyond empirical risk minimization", equation 1. The paper takes
    alpha = 0.2 to 0.4 for ImageNet; torchvision's default is 1, where l is uniform.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)

    def draw(self, shape: Shape, rng: np.random.Generator) -> float:
        return rng.beta(self.alpha, self.alpha)

    def apply(
        self, images: np.ndarray, targets: np.ndarray, drawn: float
    ) -> tuple[np.ndarray, np.ndarray]:
        return _blend(images, drawn), _blend(targets, drawn)


@dataclass(frozen=True)
class CutMix(BatchTransform[Box]):
    """Put a rectangle of another image into each image of a batch, and mix targets by its area.

    Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable
    features", equations 1 and 2. The rectangle of image i comes from image i - 1. With l from
    Beta(alpha, alpha), it has sqrt(1 - l) of both sides, and its centre lies anywhere; what would
    lie outside the image is cut off, and the targets are mixed by the area that is left.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Box:
        h, w = shape
        half = 0.5 * math.sqrt(1 - rng.beta(self.alpha, self.alpha))
        y, x = int(rng.integers(h)), int(rng.integers(w))
        top, bottom = max(0, y - int(half * h)), min(h, y + int(half * h))
        left, right = max(0, x - int(half * w)), min(w, x + int(half * w))
        return Box(top, left, bottom - top, right - left)

    def apply(
        self, images: np.ndarray, targets: np.ndarray, drawn: Box
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = drawn.slices()
        mixed = images.copy()
        mixed[:, rows, columns] = np.roll(images, 1, axis=0)[:, rows, columns]
        h, w = images.shape[1:3]
        return mixed, _blend(targets, 1 - drawn.height * drawn.width / (h * w))


def _check_alpha(owner: MixUp | CutMix) -> None:
    number(owner, "alpha", 1 / LARGEST_ALPHA, LARGEST_ALPHA)


def _blend(x: np.ndarray, share: float) -> np.ndarray:
    """share * x_i + (1 - share) * x_(i-1), along the first axis."""
    return share * x + (1 - share) * np.roll(x, 1, axis=0)
