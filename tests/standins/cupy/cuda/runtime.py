"""CUDA's runtime, under CuPy's second name for it."""

from cupy_backends.cuda.api.runtime import *  # noqa: F403
