"""From an image file to the square of bytes that the network sees."""

import os
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.contract import Contract

if TYPE_CHECKING:
    from PIL.Image import Image


class UnknownRangeError(ValueError):
    """An image whose numbers do not say which of them is white."""


def load_image(path: str | os.PathLike[str], contract: Contract, size: int) -> np.ndarray:
    """Decode, resize and crop one image as the contract says: uint8 [size, size, 3], RGB.

    Raises UserError if the file is missing or no readable image.
    """
    return fit(decode(path), contract, size)


def decode(path: str | os.PathLike[str]) -> "Image":
    """The image in `path` as RGB, the right way up (a camera's orientation tag is obeyed).

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
    """Resize the shorter side to `contract.resize_for(size)`, cut out the centre: [size, size, 3].

    The longer side is rounded down and the crop's corner to the nearest pixel, as torchvision does.
    """
    shorter = contract.resize_for(size)
    w, h = image.size
    new_w, new_h = (shorter, int(shorter * h / w)) if w <= h else (int(shorter * w / h), shorter)
    image = _resize(image, new_w, new_h, contract)
    left, top = round((new_w - size) / 2), round((new_h - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _resize(image: "Image", w: int, h: int, contract: Contract) -> "Image":
    from PIL import Image

    if (w, h) == image.size:
        return image
    filter_ = Image.Resampling[contract.interpolation.upper()]
    if contract.antialias:
        return image.resize((w, h), filter_)
    # An affine map samples each output pixel at one point: no averaging when the image shrinks.
    matrix = (image.width / w, 0.0, 0.0, 0.0, image.height / h, 0.0)
    return image.transform((w, h), Image.Transform.AFFINE, matrix, filter_)


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
