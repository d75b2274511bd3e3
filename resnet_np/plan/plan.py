"""A plan: the steps of a forward pass, ready for batches of any size."""

import math
import time
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import pairwise
from typing import NamedTuple

from resnet_np.autograd import Tensor
from resnet_np.kernels import Array, get_array_module
from resnet_np.kernels.fused import empty
from resnet_np.plan.buffers import Layout, Workspace
from resnet_np.plan.patterns import fuse
from resnet_np.plan.steps import Convolution, Other, Prepared, Step
from resnet_np.plan.trace import Trace

# Of results inside the network at a time. A large batch is run some images after the others.
WORKSPACE_BYTES = 64 * 2**20


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
        self.free: list[Workspace] = []

    def refresh(self, store: MutableMapping[tuple, Prepared]) -> None:
        """Prepare the weights that are new, or no longer what they were.

        store : what plans of the same model have prepared, by `Convolution.key`
        """
        for step in self.steps:
            if not isinstance(step, Convolution) or (step.prepared and step.prepared.is_fresh()):
                continue
            shape = self.shapes[step.x]
            prepared = store.get(step.key(shape))
            if prepared is None or not prepared.is_fresh():
                prepared = store[step.key(shape)] = step.prepare(shape)
            step.prepared = prepared

    def __call__(self, x: Array) -> Array:
        y = empty((len(x), *self.shapes[self.output][1:]), x)
        for images in self._chunks(x):
            for _ in self._run(x[images], y[images]):
                pass
        return y

    def timed(self, x: Array) -> Iterator[Timing]:
        """Run on one batch, step by step, and tell of each how long it took."""
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
        most = max(1, WORKSPACE_BYTES // max(1, sum(self.layout.sizes) * x.itemsize))
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

    def _take(self, x: Array) -> Workspace:
        """A workspace that nobody else has, large enough for x."""
        try:
            workspace = self.free.pop()
        except IndexError:
            return Workspace(self.layout, len(x), x)
        return workspace if workspace.images >= len(x) else Workspace(self.layout, len(x), x)

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
