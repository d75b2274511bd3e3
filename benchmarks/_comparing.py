"""What follows from the times and the outputs of several engines in the same rounds."""

from itertools import combinations
from statistics import median

import numpy as np

ALLOWED_DIFFERENCE = 1e-4


def ratio(times: list[float], ours: list[float]) -> float:
    """Median by median: above 1 we are faster."""
    return median(times) / median(ours)


def spread(times: list[float], ours: list[float]) -> tuple[float, float]:
    """The smallest and the largest ratio within a round."""
    ratios = [theirs / own for theirs, own in zip(times, ours, strict=True)]
    return min(ratios), max(ratios)


def fastest(times: dict[str, list[float]]) -> str:
    """The engine with the least median."""
    return min(times, key=lambda name: median(times[name]))


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest |a - b| over the largest |b|; infinite where something is no number."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = float(np.abs(b).max())
    difference = float(np.abs(a.astype(np.float64) - b).max())
    return difference / scale if scale else difference


def differences(outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """The relative difference of each two engines' outputs, as "one, other"."""
    return {
        f"{a}, {b}": relative_difference(outputs[a], outputs[b])
        for a, b in combinations(outputs, 2)
    }
