"""Where results lie: one buffer serves many of them, one after the other."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from resnet_np.kernels import Array
from resnet_np.kernels.fused import empty
from resnet_np.plan.repeating import Repeated
from resnet_np.plan.steps import Convolution, Prepared, Step, is_placed

MOST_REPEATED = 8  # sizes of batches for which a workspace keeps a recording


class Layout:
    """A buffer for each value that a step writes into memory that it is given.

    places : number of a value -> number of its buffer
    sizes : how many numbers each buffer has, for one image
    settled : results of convolutions whose inputs, too, lie in the buffers
    """

    def __init__(self, steps: Sequence[Step], shapes: list[tuple[int, ...]], output: int) -> None:
        self.shapes = shapes
        self.places: dict[int, int] = {}
        self.sizes: list[int] = []
        last = _last_uses(steps)
        self.settled: set[int] = set()
        viewed = {value for step in steps if not is_placed(step) for value in step.inputs}
        free: set[int] = set()
        for i, step in enumerate(steps):
            ending = {value for value in self.places if last.get(value) == i}
            if is_placed(step) and step.output != output:  # the output goes to the caller
                over = step.residual if step.residual in ending - viewed else None
                self._place(step.output, free, None if over == step.inputs[0] else over)
            if isinstance(step, Convolution) and {*step.inputs, step.output} <= self.places.keys():
                self.settled.add(step.output)
            free |= {self.places[value] for value in ending} - {self.places.get(step.output)}

    def _place(self, value: int, free: set[int], over: int | None) -> None:
        """Over the shortcut, which is read for the last time; or in the best free buffer."""
        size = math.prod(self.shapes[value])
        if over is not None:
            self.places[value] = self.places[over]
            return
        if free:
            large = [b for b in free if self.sizes[b] >= size]
            best = min(large, key=self._size) if large else max(free, key=self._size)
            free.remove(best)
        else:
            best = len(self.sizes)
            self.sizes.append(0)
        self.sizes[best] = max(self.sizes[best], size)
        self.places[value] = best

    def _size(self, buffer: int) -> int:
        return self.sizes[buffer]


def _last_uses(steps: Sequence[Step]) -> dict[int, int]:
    """The last step that reads each value.

    What an op brings itself may be its input in another shape: the input then lives as long.
    """
    last: dict[int, int] = {}
    for i, step in reversed(list(enumerate(steps))):
        end = i if is_placed(step) else max(i, last.get(step.output, i))
        for value in step.inputs:
            last[value] = max(last.get(value, 0), end)
    return last


class Workspace:
    """The buffers of one run, for up to `images` images."""

    def __init__(self, layout: Layout, images: int, like: Array) -> None:
        self.layout, self.images = layout, images
        self.buffers = [empty((images * size,), like) for size in layout.sizes]
        self._views: dict[int, list[Array | None]] = {}
        self._ready: dict[int, tuple[Prepared | None, dict[int, Callable[[], None]]]] = {}
        self._repeated: dict[int, Repeated] = {}
        self._outer: list[Array] = []

    def values(self, n: int) -> list[Array | None]:
        """For each value its array for n images, or None where it has no buffer."""
        if n not in self._views:
            self._views[n] = [self._view(v, n) for v in range(len(self.layout.shapes))]
        return self._views[n].copy()

    def ready(self, step: Step, values: list[Any]) -> Callable[[], None]:
        """What runs a step on these values; kept, as long as it would be the same the next time."""
        if step.output not in self.layout.settled:
            return step.ready(values)
        current = step.prepared  # read once: another thread may be preparing the step anew
        prepared, runs = self._ready.get(step.output, (None, {}))
        if prepared is not current:
            runs = {}
            self._ready[step.output] = current, runs
        n = len(values[step.output])
        if n not in runs:
            runs[n] = step.ready(values)
        return runs[n]

    def repeated(self, steps: Sequence[Step], output: int, x: Array, y: Array) -> Repeated:
        """All steps, recorded for as many images as there are in x."""
        n = len(x)
        kept = self._repeated.pop(n, None)
        if kept is None or not kept.is_fresh():
            kept = Repeated(steps, self.values(n), output, *self._ends(x, y))
        self._repeated[n] = kept  # the latest one last
        if len(self._repeated) > MOST_REPEATED:
            del self._repeated[next(iter(self._repeated))]
        return kept

    def _ends(self, x: Array, y: Array) -> list[Array]:
        """Places for an input and a result like these: the same ones for any number of images."""
        if not self._outer:
            self._outer = [empty((self.images * math.prod(a.shape[1:]),), a) for a in (x, y)]
        return [
            place[: a.size].reshape(a.shape) for place, a in zip(self._outer, (x, y), strict=True)
        ]

    def _view(self, value: int, n: int) -> Array | None:
        if value not in self.layout.places:
            return None
        shape = (n, *self.layout.shapes[value][1:])
        return self.buffers[self.layout.places[value]][: math.prod(shape)].reshape(shape)
