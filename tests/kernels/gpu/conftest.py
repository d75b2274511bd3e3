"""A card: one that there is none of, and the one that there may be."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from standins.card import stand_in


@pytest.fixture(params=["stand-in", pytest.param("card", marks=pytest.mark.gpu)])
def card(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What `import cupy` gives for this test: the stand-in, see tests/standins/cupy; and CuPy."""
    if request.param == "stand-in":
        with stand_in() as cupy:
            yield cupy
        return
    if "standin" in inspect.getsource(request.function):
        pytest.skip("is about what the stand-in keeps on record")
    import cupy

    yield cupy
