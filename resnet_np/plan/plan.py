"""A plan: the steps of a forward pass, ready for batches of any size."""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from resnet_np.autograd import Tensor
from resnet_np.kernels import Array, get_array_module
from resnet_np.kernels.fused import empty, in_turn, workspace_bytes
from resnet_np.plan.buffers import Layout, Workspace
from resnet_np.plan.patterns import fuse
from resnet_np.plan.repeating import can_repeat
from resnet_np.plan.steps import Convolution, Other, Prepared, Step, read_numbers
from resnet_np.plan.trace import Trace


class Timing(NamedTuple):
    """A step that has run. flops: multiplications and additions; moved: bytes read and written."""

    name: str
    seconds: float
    flops: int
    moved: int


class Plan:
    """Call it with a batch [N, ...] for a result that is the caller's.

    It may run on several threads at the same time: each takes a workspace from `free`, or makes
    one, and puts it back.
    """

    def __init__(self, trace: Trace, names: Mapping[int, str]) -> None:
        """names : of parameters, by their id"""
        self.steps, self.shapes, self.output = fuse(trace), trace.shapes, trace.output
        self.names = [_name(step, names) for step in self.steps]
        self.layout = Layout(self.steps, self.shapes, self.output)
        self.convolutions = [step for step in self.steps if isinstance(step, Convolution)]
        self.channels = [step.source.channel_tensors() for step in self.convolutions]
        self.free: list[Workspace] = []

    def refresh(self, store: MutableMapping[tuple, Prepared]) -> None:
        """Prepare the weights that are new, or no longer what they were.

        store : what plans of the same model have prepared, by `Convolution.key`
        """
        for step, numbers in zip(self.convolutions, read_numbers(self.channels), strict=True):
            if step.prepared and step.prepared.is_fresh(numbers):
                continue
            shape = self.shapes[step.x]
            prepared = store.get(step.key(shape))
            if prepared is None or not prepared.is_fresh(numbers):
                prepared = store[step.key(shape)] = step.prepare(shape, numbers)
            step.prepared = prepared

    def __call__(self, x: Array) -> Array:
        y = empty((len(x), *self.shapes[self.output][1:]), x)
        repeats = can_repeat(self.steps, x)
        with in_turn(x):
            for images in self._chunks(x):
                if repeats:
                    self._repeat(x[images], y[images])
                else:
                    deque(self._run(x[images], y[images]), maxlen=0)
        return y

    def timed(self, x: Array) -> Iterator[Timing]:
        """Run on one batch, step by step, and tell of each how long it took. For the CPU."""
        y = empty((len(x), *self.shapes[self.output][1:]), x)
        for images in self._chunks(x):
            n, start = images.stop - images.start, time.perf_counter()
            for i, step in enumerate(self._run(x[images], y[images])):
                seconds = time.perf_counter() - start
                flops, numbers = n * step.flops(self.shapes), n * self._numbers(step)
                weights = step.source.w.size if isinstance(step, Convolution) else 0
                yield Timing(self.names[i], seconds, flops, (numbers + weights) * x.itemsize)
                start = time.perf_counter()

    def _chunks(self, x: Array) -> list[slice]:
        """The batch in equal parts, whose results fit into the workspace."""
        most = max(1, workspace_bytes(x) // max(1, sum(self.layout.sizes) * x.itemsize))
        parts = -(-len(x) // most)
        cuts = [len(x) * i // parts for i in range(parts + 1)]
        return [slice(*pair) for pair in pairwise(cuts)]

    def _run(self, x: Array, y: Array) -> Iterator[Step]:
        """Run the steps; each is yielded when it is done."""
        workspace = self._take(x)
        try:
            values = workspace.values(len(x))
            values[0], values[self.output] = get_array_module(x).ascontiguousarray(x), y
            for step in self.steps:
                workspace.ready(step, values)()
                yield step
        finally:
            self.free.append(workspace)

    def _repeat(self, x: Array, y: Array) -> None:
        """Run the steps as they were recorded for so many images."""
        workspace = self._take(x)
        try:
            workspace.repeated(self.steps, self.output, x, y)(x, y)
        finally:
            self.free.append(workspace)

    def _take(self, x: Array) -> Workspace:
        """A workspace that nobody else has, large enough for x."""
        with suppress(IndexError):
            workspace = self.free.pop()
            if workspace.images >= len(x):
                return workspace
            del workspace  # so that its memory can be a part of the larger one's
        return Workspace(self.layout, len(x), x)

    def _numbers(self, step: Step) -> int:
        """How many numbers of one image a step reads and writes."""
        return sum(math.prod(self.shapes[v]) for v in [*step.inputs, step.output])


def _name(step: Step, names: Mapping[int, str]) -> str:
    """The layer's, where a step has parameters: "layer1.0.conv2"; else the op's."""
    parameters = [step.source.w] if isinstance(step, Convolution) else step.operands
    for parameter in parameters:
        if isinstance(parameter, Tensor) and id(parameter) in names:
            return names[id(parameter)].rpartition(".")[0]
    return type(step.op).__name__ if isinstance(step, Other) else "convolution"
