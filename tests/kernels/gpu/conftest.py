"""A card that there is none of."""

from collections.abc import Iterator
from typing import Any

import pytest
from standins.card import stand_in


@pytest.fixture
def card() -> Iterator[Any]:
    """The stand-in for CuPy, which `import cupy` gives for this test. See tests/standins/cupy."""
    with stand_in() as cupy:
        yield cupy
