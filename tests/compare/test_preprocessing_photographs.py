"""Photographs become the same input as with the frameworks' own transforms."""

from pathlib import Path

import numpy as np
import pytest

for framework in ("torch", "keras", "transformers"):
    pytest.importorskip(framework)
from preprocessing import Comparison, compare, comparisons, photographs  # noqa: E402

from resnet_np.data.images import decode  # noqa: E402


@pytest.mark.filterwarnings("ignore")  # of the frameworks, about themselves
@pytest.mark.parametrize("comparison", [*comparisons()], ids=str)
def test_photographs(comparison: Comparison, test_data: Path) -> None:
    found = [compare(comparison, path) for path in photographs(test_data)]
    assert max(difference.largest for difference in found) <= comparison.allowed
    if comparison.allowed == 1:
        step = comparison.contract.scale / min(comparison.contract.std)
        assert max(difference.normalised for difference in found) <= 1.1 * step


def test_the_photographs_are_of_many_kinds(test_data: Path) -> None:
    paths = photographs(test_data)
    assert len(set(paths)) == 20
    images = [decode(path) for path in paths]
    assert (3024, 3024) in [image.size for image in images]
    odd = [image for image in images if round(232 * max(image.size) / min(image.size)) % 2]
    assert len(odd) >= 3
    grey = [np.ptp(np.asarray(image), axis=2).max() == 0 for image in images]
    assert any(grey)
