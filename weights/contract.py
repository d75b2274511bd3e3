"""What a set of weights expects of its input: the numbers to compute before the first layer.

The same photograph, scaled or coloured the other way, is not the same input. Most wrong results
of pretrained networks come from applying one family's preprocessing to another family's weights.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.plausible import check_batch

COLORS = ("RGB", "BGR")
FITS = ("crop", "stretch")
CORNERS = ("nearest", "down")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
SAMPLED = ("nearest", "bilinear", "bicubic")  # those that exist without antialiasing
LARGEST_IMAGE = 1 << 16
LARGEST_NUMBER = 1e6


@dataclass(frozen=True)
class Contract:
    """Input contract: decode to RGB bytes, bring to size, then `normalise`.

    color: order in which the network expects the three channels.
    scale: factor on the bytes 0..255 before mean and std, 1/255 or 1.0.
    mean, std: one number per channel, in the order of `color`, after `scale`.
    resize, crop: at the network's own size (224): the shorter side becomes `resize`, then a square
        of `crop` is cut from the centre. `resize_for` gives the same proportion for other sizes.
    interpolation, antialias: how pixels are resized. With antialias, as Pillow does it, an image
        that shrinks is averaged; without, each new pixel is read at one point, as PyTorch does it.
    fit: "crop", or "stretch": the whole image becomes a square of `crop`, whatever its proportions.
    corner: where the square is cut if half a pixel is left over: at the "nearest" whole pixel, the
        even one of two (torchvision), or rounded "down" (Hugging Face).
    """

    color: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    antialias: bool = True
    fit: str = "crop"
    corner: str = "nearest"

    def __post_init__(self) -> None:
        for name, known in (
            ("color", COLORS),
            ("interpolation", INTERPOLATIONS),
            ("fit", FITS),
            ("corner", CORNERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {known}")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("mean and std need three numbers each")
        if not all(map(math.isfinite, (*self.mean, *self.std, self.scale))):
            raise ValueError("mean, std and scale must be finite")
        if min(*self.std, self.scale) <= 0:
            raise ValueError("std and scale must be above 0")
        if max(255 * self.scale, *map(abs, self.mean)) > LARGEST_NUMBER * min(self.std):
            raise ValueError("mean, std and scale give numbers that are too large")
        if not 0 < self.crop <= self.resize <= LARGEST_IMAGE:
            raise ValueError(f"crop {self.crop} does not fit into resize {self.resize}")
        if not self.antialias and self.interpolation not in SAMPLED:
            raise ValueError(f"interpolation {self.interpolation!r} has no form without antialias")

    def resize_for(self, size: int) -> int:
        """The shorter side to resize to before cutting a square of `size` pixels."""
        return round(size * self.resize / self.crop)

    def with_size(self, size: int) -> "Contract":
        """The same for images of `size` pixels."""
        return replace(self, crop=size, resize=self.resize_for(size))

    def normalise(
        self,
        images: Any,
        *,
        color: str | None = None,
        scale: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Any:
        """(images * scale - mean) / std in the contract's colour order.

        images: RGB bytes of NumPy or CuPy, uint8 [N, H, W, 3] -> float32 [N, H, W, 3], where the
            images are; the same bits on a GPU as on the CPU.
        color, scale, mean, std: what the caller believes, checked by `agree`.
        Raises UserError for other dtypes (0..1 floats would be scaled a second time), for other
        shapes, and where the caller believes otherwise.
        """
        self.agree(color=color, scale=scale, mean=mean, std=std)
        if getattr(images, "dtype", None) != np.uint8:
            kind = getattr(images, "dtype", None) or f"a {type(images).__name__}"
            raise UserError(
                f"normalise takes bytes 0..255 (uint8), not {kind}: give it the images as "
                "they were decoded; it does the scaling itself"
            )
        if images.ndim != 4 or images.shape[3] != 3:
            raise UserError(f"normalise takes [N, H, W, 3], not {list(images.shape)}")
        if self.color == "BGR":
            images = images[..., ::-1]
        # (x * scale - mean) / std = x * factor + offset, in place: one float array per batch. By
        # channel: a GPU is given numbers and no arrays, and NumPy is slow with rows of three.
        factor = np.float64(self.scale) / np.array(self.std)
        offset = -np.array(self.mean) / np.array(self.std)
        x = images.astype(np.float32, order="C")
        for c in range(3):
            channel = x[..., c]
            channel *= np.float32(factor[c])
            channel += np.float32(offset[c])
        return x

    def agree(
        self,
        *,
        color: str | None = None,
        scale: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """Compare what someone believes of the input with what the weights were trained with.

        Numbers agree within 0.2 %, a mean within half a step of 8 bits. None says nothing.
        Raises UserError naming the argument, both values and what to do.
        """
        if color is not None and color != self.color:
            raise _contradiction(
                "color",
                color,
                self.color,
                "give normalise RGB images, it turns the channels itself",
            )
        if scale is not None and not math.isclose(scale, self.scale, rel_tol=2e-3):
            shown = "1/255" if math.isclose(self.scale, 1 / 255) else self.scale
            raise _contradiction("scale", scale, shown, _scale_advice(self.scale))
        for name, given, own, atol in (
            ("mean", mean, self.mean, 0.5 * self.scale),
            ("std", std, self.std, 0.0),
        ):
            if given is None:
                continue
            if np.ndim(given) != 1:
                raise _contradiction(name, given, own, "one number per channel, or leave it out")
            if _close(given, own, atol):
                continue
            advice = "leave it out"
            if _close(tuple(given)[::-1], own, atol):
                advice = f"its order is that of {self.color}, or leave it out"
            elif len(set(given)) < len(set(own)):
                advice = "one number per channel, or leave it out"
            raise _contradiction(name, tuple(float(number) for number in given), own, advice)

    def check(self, x: Any) -> None:
        """Look at a normalised batch, float [N, H, W, 3], as `plausible` describes it.

        Raises UserError, with the reason and the fix, if it cannot be images under this contract;
        warns if it hardly can. What `normalise` made always passes.
        """
        check_batch(self, x)

    def to_record(self) -> dict[str, Any]:
        """The contract as plain JSON values, for a checkpoint."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Contract":
        """The contract of `to_record`. Raises ValueError if it is no such record.

        Records that were written before there were `fit` and `corner` have their defaults.
        """
        expected = {f.name for f in fields(cls)}
        optional = {"fit", "corner"}
        if not isinstance(record, dict) or not expected - optional <= set(record) <= expected:
            raise ValueError(f"an input contract has the fields {sorted(expected)}")
        for name in ("color", "interpolation", *optional & set(record)):
            if not isinstance(record[name], str):
                raise ValueError(f"{name} is no text")
        for name in ("resize", "crop"):
            if type(record[name]) is not int:
                raise ValueError(f"{name} is no whole number")
        if type(record["antialias"]) is not bool:
            raise ValueError("antialias is neither true nor false")
        numbers = {name: _three(name, record[name]) for name in ("mean", "std")}
        return cls(**record | numbers | {"scale": _number("scale", record["scale"])})


def _three(name: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list")
    return tuple(_number(name, number) for number in value[:4])  # one too many is noticed later


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large") from None


def _close(given: Sequence[float], own: Sequence[float], atol: float) -> bool:
    return len(given) == len(own) and all(
        math.isclose(a, b, rel_tol=2e-3, abs_tol=atol) for a, b in zip(given, own, strict=True)
    )


def _scale_advice(own: float) -> str:
    if own == 1:
        return "they take bytes 0..255, so leave the division by 255 out"
    return "leave it out, and give normalise the bytes as they were decoded"


def _contradiction(name: str, given: object, own: object, advice: str) -> UserError:
    return UserError(f"{name} is {given}, but the weights were trained with {own}: {advice}")


TORCHVISION = Contract(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""torchvision's first ImageNet weights (V1)."""

TORCHVISION_V2 = replace(TORCHVISION, resize=232)
"""torchvision's second ImageNet weights (V2)."""

HUGGINGFACE = replace(TORCHVISION, interpolation="bicubic", corner="down")
"""microsoft/resnet-50 and its siblings on Hugging Face."""

KERAS_CAFFE = Contract(
    color="BGR",
    scale=1.0,
    mean=(103.939, 116.779, 123.68),
    resize=224,
    interpolation="nearest",
    fit="stretch",
)
"""Keras' ResNet v1 weights: mean colour subtracted, nothing divided, blue first.

The size is made as Keras' documentation shows it, `load_img(path, target_size=(224, 224))`.
"""

PLAIN = Contract(resize=224)
"""Bytes brought to 0..1 and nothing else."""
