"""What happens in a forward pass, written down."""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnet_np.autograd import Tensor, no_grad
from resnet_np.autograd.tensor import Op, watched
from resnet_np.kernels import Array, only_shapes


class Record(NamedTuple):
    """An op that ran. Values are numbered as they appear: 0 is the input of the pass.

    operands : for each input the number of a value, or a parameter, or None
    """

    op: Any
    operands: tuple[Any, ...]
    output: int


class Trace(NamedTuple):
    """All that ran, in order. `shapes` of the values by number, for one image: [1, ...]."""

    records: list[Record]
    shapes: list[tuple[int, ...]]
    output: int


def trace(function: Callable[[Tensor], Tensor], image: Array) -> Trace:
    """Run `function` on one image [1, ...] and note each op; nothing is computed."""
    x = Tensor(image)
    numbers = {x: 0}  # holds on to all tensors, so that no two of them are mistaken for one
    shapes, records = [x.shape], []

    def note(op: Op, inputs: tuple[Tensor | None, ...], y: Tensor) -> None:
        op.saved = None  # there will be no way back
        operands = tuple(None if t is None else numbers.get(t, t) for t in inputs)
        numbers[y] = len(shapes)
        records.append(Record(op, operands, len(shapes)))
        shapes.append(y.shape)

    with no_grad(), only_shapes(), watched(note):
        result = function(x)
    return Trace(records, shapes, numbers[result])
