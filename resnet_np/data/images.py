"""From an image file to the square of bytes that the network sees."""

import os
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.contract import Contract

if TYPE_CHECKING:
    from PIL.Image import Image


TTA = ("none", "mirror", "ten")


class UnknownRangeError(ValueError):
    """An image whose numbers do not say which of them is white."""


def load_image(path: str | os.PathLike[str], contract: Contract, size: int) -> np.ndarray:
    """Decode, resize and crop one image as the contract says: uint8 [size, size, 3], RGB.

    Raises UserError if the file is missing or no readable image.
    """
    return fit(decode(path), contract, size)


def decode(path: str | os.PathLike[str]) -> "Image":
    """The image in `path` as RGB, the right way up.

    A camera's orientation tag is obeyed, as Hugging Face's loader does; torchvision's and Keras'
    leave such images lying on their side.

    Transparency is left away, as torchvision's loader does: a transparent pixel shows the colour
    that lies stored behind it, often black, where most viewers show a white ground.

    Raises UserError if the file is missing, broken or no image, or if its numbers have no known
    range: floating-point ones, and whole ones of more than 16 bits.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return _to_rgb(_upright(image))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnknownRangeError as error:
        raise UserError(f"{path}: {error}; save it with 8 or 16 bits per channel") from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder may fail on broken bytes with any kind of error
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        reason = "not an image format known here" if "identify" in str(error) else error
        raise UserError(f"{path}: broken image ({reason}); repair or remove it") from error


def fit(image: "Image", contract: Contract, size: int) -> np.ndarray:
    """Resize and crop, or stretch, as the contract says: uint8 [size, size, 3].

    To crop, the shorter side becomes `contract.resize_for(size)` and the longer one is rounded
    down, as torchvision and Hugging Face do; `contract.corner` says how the corner is rounded.
    """
    if contract.fit == "stretch":
        return _resize(image, size, size, contract)
    return _cut_centre(_scale(image, contract, size), contract, size)


def views(image: "Image", contract: Contract, size: int, tta: str) -> np.ndarray:
    """Several looks at one image, to be averaged (test-time augmentation): uint8 [v, S, S, 3].

    tta: "none", the one that `fit` makes; "mirror", that and its mirror image; "ten", the centre
    and the four corners, and their mirror images (Krizhevsky, Sutskever & Hinton 2012, "ImageNet
    classification with deep convolutional neural networks", section 4.1). Raises UserError for
    corners where the contract stretches the image instead of cutting it.
    """
    if tta != "ten":
        centre = fit(image, contract, size)
        return np.stack([centre] if tta == "none" else [centre, centre[:, ::-1]])
    if contract.fit == "stretch":
        raise UserError(
            "--tta ten: these weights expect the whole image, stretched: it has no corners to cut "
            "out; say --tta mirror"
        )
    pixels = _scale(image, contract, size)
    ends = slice(size), slice(-size, None)
    corners = [pixels[rows, columns] for rows in ends for columns in ends]
    cuts = [*corners, _cut_centre(pixels, contract, size)]
    return np.stack([*cuts, *(cut[:, ::-1] for cut in cuts)])


def _scale(image: "Image", contract: Contract, size: int) -> np.ndarray:
    """The image whose shorter side is as the contract says, before a square is cut from it."""
    new_h, new_w = scale_shorter(image.height, image.width, contract.resize_for(size))
    return _resize(image, new_w, new_h, contract)


def _cut_centre(pixels: np.ndarray, contract: Contract, size: int) -> np.ndarray:
    h, w, _ = pixels.shape
    rounded = round if contract.corner == "nearest" else int
    top, left = rounded((h - size) / 2), rounded((w - size) / 2)
    return pixels[top : top + size, left : left + size]


def scale_shorter(h: int, w: int, size: int) -> tuple[int, int]:
    """The height and width of an image whose shorter side has become `size`."""
    return (int(size * h / w), size) if w <= h else (size, int(size * w / h))


def _resize(image: "Image", w: int, h: int, contract: Contract) -> np.ndarray:
    """-> uint8 [h, w, 3].

    With antialias by Pillow, as torchvision, Keras and Hugging Face do it with images. torchvision
    resizes its tensors by another method: within one step of this where bilinear, but not where
    bicubic (8 steps were seen on photographs) or nearest.
    """
    from PIL import Image

    if contract.antialias:
        return np.asarray(image.resize((w, h), Image.Resampling[contract.interpolation.upper()]))
    x = _sample(np.asarray(image, np.float32), h, contract.interpolation)  # [H, W, 3] -> [h, W, 3]
    x = _sample(x.swapaxes(0, 1), w, contract.interpolation).swapaxes(0, 1)  # -> [h, w, 3]
    return x.round().clip(0, 255).astype(np.uint8)


def _sample(x: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Read rows at `size` points between them, as PyTorch does: [H, W, 3] -> [size, W, 3].

    Row i of the new image lies at (i + 1/2) * H / size - 1/2 in the old one. Its neighbours count
    by their distance; beyond the edge the last row goes on. "nearest" is the row above i * H / size
    instead, of which PyTorch says itself that the halves are missing.
    """
    i, step = np.arange(size, dtype=np.float32), np.float32(len(x) / size)
    if interpolation == "nearest":
        return x[(i * step).astype(int).clip(0, len(x) - 1)]
    weight, reach = (_bilinear, 1) if interpolation == "bilinear" else (_bicubic, 2)
    at = (i + np.float32(0.5)) * step - np.float32(0.5)
    first = np.floor(at).astype(int)
    y = np.zeros((size, *x.shape[1:]), np.float32)
    for row in range(1 - reach, 1 + reach):
        weights = weight(np.abs(at - (first + row).astype(np.float32)))
        y += weights[:, None, None] * x[(first + row).clip(0, len(x) - 1)]
    return y


def _bilinear(distance: np.ndarray) -> np.ndarray:
    return 1 - distance


def _bicubic(d: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", equation 4.

    Keys takes a = -1/2 there, and so does Pillow. PyTorch takes -3/4 where it does not average.
    """
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def _upright(image: "Image") -> "Image":
    """The image turned as its orientation tag says; as it is where its tags cannot be read."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken tags do no harm to the pixels
        return image


def _to_rgb(image: "Image") -> "Image":
    """Any mode to RGB. 16-bit grey is scaled to 8 bits: Pillow alone would clip it to white.

    65535 / 257 is 255. Pillow's 32-bit mode I is what some 16-bit files are read as, but not all:
    numbers up to 255 are bytes already.
    """
    from PIL import Image

    if image.mode == "F":
        raise UnknownRangeError("its pixels are floating-point numbers, of no known range")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise UnknownRangeError(f"its pixels reach from {grey.min()} to {grey.max()}")
        if image.mode != "I" or grey.max() > 255:
            grey //= 257
        image = Image.fromarray(grey.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # to RGB at once, Pillow warns
    return image.convert("RGB")
