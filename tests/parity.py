"""Comparing with another framework: the measure of a difference, and the layout of its weights."""

from typing import Any

import numpy as np


def relative_error(a: Any, b: np.ndarray) -> float:
    """max|a - b| / max|b| over one tensor: b is the other framework's."""
    assert a.shape == b.shape, f"{a.shape} is compared with {b.shape}"
    scale = float(np.abs(b).max())
    difference = float(np.abs(np.subtract(a, b, dtype=np.float64)).max())
    return difference / scale if scale else difference


def our_layout(array: np.ndarray) -> np.ndarray:
    """torch's weight in our order: [K, C, R, S] -> [R, S, C, K], [K, C] -> [C, K]."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    return array if axes is None else np.ascontiguousarray(array.transpose(axes))


def torch_layout(array: np.ndarray) -> np.ndarray:
    """Our weight in torch's order: [R, S, C, K] -> [K, C, R, S], [C, K] -> [K, C]."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
    return array if axes is None else np.ascontiguousarray(array.transpose(axes))


def channels_last(array: np.ndarray) -> np.ndarray:
    """torch's activation in our order: [N, C, H, W] -> [N, H, W, C]; features [N, C] stay."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def channels_first(array: np.ndarray) -> np.ndarray:
    """Our activation in torch's order: [N, H, W, C] -> [N, C, H, W]."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
