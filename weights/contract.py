"""What a set of weights expects of its input: the numbers to compute before the first layer.

The same photograph, scaled or coloured the other way, is not the same input. Most wrong results
of pretrained networks come from applying one family's preprocessing to another family's weights.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

COLORS = ("RGB", "BGR")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Contract:
    """Input contract: decode to RGB bytes, resize, crop, then `normalise`.

    color: order in which the network expects the three channels.
    scale: factor on the bytes 0..255 before mean and std, 1/255 or 1.0.
    mean, std: one number per channel, in the order of `color`, after `scale`.
    resize, crop: at the network's own size (224): the shorter side becomes `resize`, then a square
        of `crop` is cut from the centre. `resize_for` gives the same proportion for other sizes.
    """

    color: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise ValueError(f"color is {self.color!r}, not one of {COLORS}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {self.interpolation!r}, not in {INTERPOLATIONS}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0 or self.scale <= 0:
            raise ValueError("mean and std need three numbers each; std and scale above 0")
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"crop {self.crop} does not fit into resize {self.resize}")

    def resize_for(self, size: int) -> int:
        """The shorter side to resize to before cutting a square of `size` pixels."""
        return round(size * self.resize / self.crop)

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """(images * scale - mean) / std in the contract's colour order.

        images: RGB bytes, uint8 [N, H, W, 3] -> float32 [N, H, W, 3].
        Raises TypeError for other dtypes (0..1 floats would be scaled a second time), ValueError
        for other shapes.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"normalise takes bytes 0..255 (uint8), not {images.dtype}")
        if images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"normalise takes [N, H, W, 3], not {list(images.shape)}")
        if self.color == "BGR":
            images = images[..., ::-1]
        # (x * scale - mean) / std = x * factor + offset, in place: one float array per batch.
        factor = np.float64(self.scale) / np.array(self.std)
        offset = -np.array(self.mean) / np.array(self.std)
        x = images.astype(np.float32, order="C")
        x *= factor.astype(np.float32)
        x += offset.astype(np.float32)
        return x

    def to_record(self) -> dict[str, Any]:
        """The contract as plain JSON values, for a checkpoint."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Contract":
        """The contract of `to_record`. Raises ValueError if it is no such record."""
        expected = {f.name for f in fields(cls)}
        if set(record) != expected:
            raise ValueError(f"an input contract has the fields {sorted(expected)}")
        return cls(**record | {"mean": tuple(record["mean"]), "std": tuple(record["std"])})


TORCHVISION = Contract(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""torchvision's ImageNet weights."""

KERAS_CAFFE = Contract(color="BGR", scale=1.0, mean=(103.939, 116.779, 123.68))
"""Keras' ResNet v1 weights: mean colour subtracted, nothing divided, blue first."""

PLAIN = Contract(resize=224)
"""Bytes brought to 0..1 and nothing else."""
