"""From an image file to the square of bytes that the network sees."""

import os
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.contract import Contract

if TYPE_CHECKING:
    from PIL.Image import Image


def load_image(path: str | os.PathLike[str], contract: Contract, size: int) -> np.ndarray:
    """Decode, resize and crop one image as the contract says: uint8 [size, size, 3], RGB.

    Raises UserError if the file is missing or no readable image.
    """
    return fit(decode(path), contract, size)


def decode(path: str | os.PathLike[str]) -> "Image":
    """The image in `path` as RGB, the right way up (a camera's orientation tag is obeyed).

    Raises UserError if the file is missing, broken or no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
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


def _to_rgb(image: "Image") -> "Image":
    """Any mode to RGB. 16-bit grey is scaled to 8 bits: Pillow alone would clip it to white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16) // 257
        image = Image.fromarray(grey.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
