"""What these tests need beside Python: a C++ compiler, and NVIDIA's for its cards."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test; where the tools were promised (RESNET_NP_GPU_TOOLS=1, in CI), fail it."""
    if os.environ.get("RESNET_NP_GPU_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
