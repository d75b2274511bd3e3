"""Which ops become one step.

    Conv2d or Linear  [+ FixedBatchNorm [with a shortcut] [with ReLU]]  [+ ReLU]

The step stands where its last op stood: only there are all its inputs known. Any other op is a step
of its own.
"""

from collections import Counter
from collections.abc import Callable

from resnet_np.autograd import Tensor
from resnet_np.autograd.activation import ReLU
from resnet_np.autograd.conv import Conv2d, Linear
from resnet_np.autograd.norm import FixedBatchNorm
from resnet_np.autograd.tensor import Op
from resnet_np.kernels import NO_PADDING
from resnet_np.plan.steps import Convolution, Norm, Other, Source, Step
from resnet_np.plan.trace import Record, Trace


def fuse(trace: Trace) -> list[Step]:
    """The steps of a trace, in an order in which they can run."""
    read = [v for record in trace.records for v in record.operands if isinstance(v, int)]
    uses = Counter([*read, trace.output])
    steps: dict[int, Step] = {}  # by the number of the value that a step makes
    for record in trace.records:
        kind = type(record.op)
        x = record.operands[0]
        before = steps.get(x) if isinstance(x, int) and uses[x] == 1 else None
        if kind in STARTS and isinstance(x, int) and _are_parameters(*record.operands[1:]):
            step: Step = _convolution(record)
        elif kind in JOINS and isinstance(before, Convolution) and JOINS[kind](before, record):
            step = before
            del steps[step.output]
            step.output = record.output
        else:
            step = Other(record)
        steps[record.output] = step
    return list(steps.values())


def _are_parameters(*operands: Tensor | int | None) -> bool:
    """Whether these are there before the pass begins: they could be results, too."""
    return not any(isinstance(operand, int) for operand in operands)


def _convolution(record: Record) -> Convolution:
    op, (x, w, b), output = record
    source = Source(w, b, None)
    if isinstance(op, Linear):
        return Convolution(x, source, (1, 1), NO_PADDING, output)
    return Convolution(x, source, op.stride, op.padding, output)


def _join_norm(step: Convolution, record: Record) -> bool:
    """Fold a batch norm into the convolution in front of it, if it is the first thing behind."""
    op, (_, gamma, beta, residual), _ = record
    first = step.source.norm is None and not step.relu
    if not first or not _are_parameters(gamma, beta) or isinstance(residual, Tensor):
        return False
    norm = Norm(gamma, beta, op.mean, op.var, op.eps)
    step.source = step.source._replace(norm=norm)
    step.residual, step.relu = residual, op.relu
    return True


def _join_relu(step: Convolution, record: Record) -> bool:
    step.relu = True
    return True


STARTS: set[type[Op]] = {Conv2d, Linear}
# What may follow: each changes the step, or says that it cannot.
JOINS: dict[type[Op], Callable[[Convolution, Record], bool]] = {
    FixedBatchNorm: _join_norm,
    ReLU: _join_relu,
}
