"""Libraries, each loaded when it is first asked for."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "cublas":
        raise AttributeError(f"the stand-in has no {name}")
    return importlib.import_module("cupy_backends.cuda.libs.cublas")
