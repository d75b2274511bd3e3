"""Checks that also run on a card: `pytest -m gpu tests/gradcheck`."""

import pytest

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
