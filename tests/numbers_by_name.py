"""Weights and images for the golden files, made anew from their names instead of being stored."""

import zlib

import numpy as np


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 values that suit a tensor of this name, in our layout; the same on every machine.

    Convolutions and linear layers are scaled so that activations keep their size; gammas and
    variances are positive; everything else is centred.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape)
    normal = rng.standard_normal(shape)
    if len(shape) == 1:
        return normal * 0.1
    fan = int(np.prod(shape[:-1]))
    return normal * (2 / fan) ** 0.5 if name.endswith("weight") else normal


def labels(name: str, count: int, classes: int) -> np.ndarray:
    """`count` class numbers."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, classes, count)
