"""A table of a model's layers, as Keras prints it."""

import copy
from functools import partial

import numpy as np

from resnet_np.autograd import Tensor, no_grad
from resnet_np.nn.module import Module


def summary(model: Module, input_shape: tuple[int, int, int]) -> str:
    """Layer, output shape, parameters, and whether they are trained, for an input [H, W, C].

    A row for each module that has numbers of its own, or no module below it. The shapes are those
    that one zero image meets on its way through. Moving statistics of batch norm count as
    parameters that are not trained, as in Keras; PyTorch does not count them, and the last line
    says what it would say.
    """
    rows = [("Layer (type)", "Output shape", "Params", "Trained")]
    shapes = _output_shapes(model, input_shape)
    for name, module in model.named_modules():
        own = [p for path, p in module.named_parameters() if "." not in path]
        buffers = [b for path, b in module.named_buffers() if "." not in path]
        if name not in shapes or (any(True for _ in module.children()) and not own + buffers):
            continue
        total = sum(v.size for v in own + buffers)
        trained = ("yes" if own[0].requires_grad else "frozen") if own else ""
        shape = "(" + ", ".join(["N", *map(str, shapes[name][1:])]) + ")"
        rows.append((f"{name} ({type(module).__name__})".lstrip(), shape, f"{total:,}", trained))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "=" * max(map(len, lines)))
    return "\n".join([*lines, "=" * len(lines[1]), *_totals(model)])


def parameter_counts(model: Module) -> tuple[int, int, int]:
    """(trained, frozen, moving statistics): how many numbers of each kind the model has."""
    trained = sum(p.size for p in model.parameters() if p.requires_grad)
    frozen = sum(p.size for p in model.parameters() if not p.requires_grad)
    return trained, frozen, sum(b.size for _, b in model.named_buffers())


def _totals(model: Module) -> list[str]:
    trained, frozen, statistics = parameter_counts(model)
    return [
        f"Total params: {trained + frozen + statistics:,} (moving statistics counted, as in Keras)",
        f"Trainable params: {trained:,}",
        f"Non-trainable params: {frozen + statistics:,}"
        f" ({frozen:,} frozen, {statistics:,} moving statistics)",
        f"Without moving statistics, as PyTorch counts: {trained + frozen:,}",
    ]


def _output_shapes(model: Module, input_shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Run one zero image through a copy of the model, noting each module's output shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    model = copy.deepcopy(model).to("cpu").eval()
    dtype = next((p.dtype for p in model.parameters()), np.float32)
    for name, module in model.named_modules():
        module.hook = partial(_note_shape, shapes, name)
    with no_grad():
        model(Tensor(np.zeros((1, *input_shape), dtype)))
    return shapes


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str, x: Tensor, y: Tensor) -> None:
    shapes[name] = y.shape
