"""Make `import torchvision` work where its compiled operators cannot be loaded.

A torchvision built for another torch (installed without its dependencies, say) cannot load its
compiled part. It goes on without, until it describes two detection operators that nobody declared.
Nothing compared here uses them, so they are declared here. Instead of torchvision, import this:

    from torchvision_shim import torchvision
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _has_compiled_part() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))
        except (OSError, RuntimeError):
            return False
        return True
    return False


if not _has_compiled_part():
    for _schema in _SCHEMAS:
        torch.library.define(_schema[: _schema.index("(")], _schema[_schema.index("(") :])

import torchvision  # noqa: E402

__all__ = ["torchvision"]
