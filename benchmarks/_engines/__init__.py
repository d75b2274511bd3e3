"""What is measured: our engine, and those that it is compared with, behind the same few methods.

    base.py      what an engine is, and what all of them are given
    ours.py      this project
    pytorch.py   PyTorch, eager in two layouts, and compiled
    graphs.py    ONNX Runtime and OpenVINO

To add one: a class derived from `Engine`, and a line in ENGINES. No framework is imported before an
engine is made: each has a process of its own.
"""

import importlib.util

from _engines.base import (
    CLASSES,
    PASSES,
    PIXELS,
    Call,
    Convolution,
    Engine,
    Material,
    process_peak_bytes,
)
from _engines.graphs import OnnxRuntime, OpenVino
from _engines.ours import ResNetNp
from _engines.pytorch import Torch, TorchCompile, TorchNchw
from resnet_np.errors import UserError

__all__ = [
    "CLASSES",
    "ENGINES",
    "PASSES",
    "PIXELS",
    "Call",
    "Convolution",
    "Engine",
    "Material",
    "ResNetNp",
    "engine_names",
    "process_peak_bytes",
]

ENGINES: dict[str, type[Engine]] = {
    "resnet_np": ResNetNp,
    "torch": Torch,
    "torch-nchw": TorchNchw,
    "torch-compile": TorchCompile,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def engine_names(against: str, task: str, device: str) -> list[str]:
    """Ours, and those of `--against`: names with commas between.

    Raises UserError for one that nobody knows, that cannot do the task, or that is not installed.
    """
    others = list(dict.fromkeys(name for name in against.split(",") if name))
    for name in others:
        known = [n for n, engine in ENGINES.items() if task in engine.tasks and n != "resnet_np"]
        if name not in ENGINES or name == "resnet_np":
            raise UserError(f"--against {name}: no such engine; for {task}: {', '.join(known)}")
        engine = ENGINES[name]
        if task not in engine.tasks:
            does = ", ".join(engine.tasks)
            raise UserError(
                f"--against {name}: is measured in {does} only; for {task}: {', '.join(known)}"
            )
        if device not in engine.devices:
            raise UserError(f"--against {name}: is measured on the CPU only, not on --device gpu")
        if not importlib.util.find_spec(engine.package):
            raise UserError(
                f"--against {name}: {engine.package} is not installed; "
                "`bash tests/compare/install.sh` installs it"
            )
    return ["resnet_np", *others]
