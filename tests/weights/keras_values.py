"""The numbers in the small Keras files: a different array for every variable, known by its name."""

import zlib

import numpy as np


def values(layer: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from 0.5 to 1.5 (so that variances are positive), drawn by the variable's name."""
    rng = np.random.default_rng(zlib.crc32(f"{layer}/{tensor}".encode()))
    return np.asarray(rng.uniform(0.5, 1.5, shape), np.float32)


def constants(layer: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same number everywhere in a variable, and another one in the next."""
    return np.full(shape, values(layer, tensor, ()), np.float32)
