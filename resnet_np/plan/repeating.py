"""On a GPU: all steps for a batch of one size, recorded once and launched as one."""

import sys
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from resnet_np.autograd.arithmetic import Reshape
from resnet_np.kernels import Array, get_array_module, is_on_gpu, precision
from resnet_np.kernels.fused import recorded
from resnet_np.plan.steps import Convolution, Prepared, Step, is_placed

RECORDABLE = sys.platform == "linux"  # elsewhere nobody has tried


def can_repeat(steps: Sequence[Step], like: Array) -> bool:
    """Whether the steps use no memory but what they are given, which a recording would not hold."""
    return RECORDABLE and is_on_gpu(like) and all(map(_is_settled, steps))


def _is_settled(step: Step) -> bool:
    return isinstance(step, Convolution) or isinstance(step.op, Reshape) or is_placed(step)


class Repeated:
    """The steps from an array x to an array y, always the same ones: a recording knows addresses.

    values : as `Workspace.values` gives them
    """

    def __init__(
        self, steps: Sequence[Step], values: list[Any], output: int, x: Array, y: Array
    ) -> None:
        self.steps, self.prepared, self.precision = steps, _prepared(steps), precision.get()
        self.x, self.y = values[0], values[output] = x, y
        self.launch = recorded([_run_once(step.ready(values)) for step in steps])

    def is_fresh(self) -> bool:
        """Whether the weights, as they are packed, and the precision are still the same."""
        same = all(map(is_, self.prepared, _prepared(self.steps)))
        return same and self.precision == precision.get()

    def __call__(self, x: Array, y: Array) -> None:
        """The same from another x to another y."""
        xp = get_array_module(x)
        xp.copyto(self.x, x)
        self.launch()
        xp.copyto(y, self.y)


def _run_once(run: Callable[[], None]) -> Callable[[], None]:
    """A step that has run is compiled, and what the next one reads is there."""
    run()
    return run


def _prepared(steps: Sequence[Step]) -> list[Prepared | None]:
    return [step.prepared for step in steps]
