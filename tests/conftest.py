"""What all tests share: where real data lie, how hypothesis searches, and how many threads run."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from resnet_np.device import require_gpu
from resnet_np.errors import UserError

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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that are marked `gpu` are left out where there is none, and say why."""
    if item.get_closest_marker("gpu") and (reason := _no_gpu()):
        pytest.skip(reason)


@cache
def _no_gpu() -> str:
    try:
        require_gpu()
    except UserError as error:
        return str(error)
    return ""


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
