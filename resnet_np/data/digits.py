"""The embedded data: 1,797 handwritten digits, which scikit-learn brings along."""

import numpy as np

LEVELS = 16  # each of the 8 x 8 pixels counts the inked ones among the 16 it was made of


def load_digits_images(size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The digits as images for a network.

    Returns (images uint8 [1797, size, size, 3], labels int64 [1797], classes "0" to "9"). They are
    the test part of Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits".
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    classes = tuple(str(name) for name in digits.target_names)
    return enlarge(digits.images, size), digits.target.astype(np.int64), classes


def enlarge(counts: np.ndarray, size: int) -> np.ndarray:
    """Small grey images as RGB bytes, resized bilinearly.

    counts: numbers 0..16, [N, H, W] -> uint8 [N, size, size, 3], three equal channels.
    """
    from PIL import Image

    grey = np.rint(counts * (255 / LEVELS)).astype(np.uint8)
    bilinear = Image.Resampling.BILINEAR
    large = np.stack([np.asarray(Image.fromarray(g).resize((size, size), bilinear)) for g in grey])
    return np.repeat(large[..., None], 3, axis=3)  # [N, size, size] -> [N, size, size, 3]
