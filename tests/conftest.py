"""What all tests share: where real data lie, how hypothesis searches, and how many threads run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

# No deadline: the first call of a kernel may allocate or compile, and machines are shared. In CI
# the examples are the same on each run, so that a red build means a change and not luck.
settings.register_profile("local", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Matrix products of a few rows only wait for each other on more than one thread."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real weights and images, which are too large for the repository."""
    named = os.environ.get("RESNET_NP_TEST_DATA")
    if not named:
        pytest.skip("set RESNET_NP_TEST_DATA to the folder of real weights and images")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"RESNET_NP_TEST_DATA names no folder: {folder}")
    return folder
