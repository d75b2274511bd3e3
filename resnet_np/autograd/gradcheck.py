"""Is a backward pass right? Compare it with what the forward pass does when its input moves.

For y = f(x) and a random cotangent c, the tape's gradient of L = sum(c * y) must agree with

    (L(x + h*u) - L(x - h*u)) / 2h   for every direction u,

which reads the forward pass alone. Three things make such a check see:

- the cotangent is random. With ones, the gradient through a batch norm or a softmax is exactly zero
  whatever the code does, since their outputs have a constant sum.
- everything is float64. Differences in float32 are good to three digits at best.
- a gradient that is exactly zero is an error: it would agree with any backward pass that is zero.

Small inputs are checked element by element. Large ones along random directions, in which every
element has a share that is not small, and at a sample of elements.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.autograd.tensor import Tensor, no_grad

FULL_UP_TO = 256  # elements: more than that is checked along directions and by sample
DIRECTIONS = 4
SAMPLES = 16
SMALLER_STEPS = (1.0, 0.1, 0.01)  # of eps, tried in turn where a kink is near
NUDGES = 3  # fresh starting points, where one lies on a kink


class GradientError(AssertionError):
    """A gradient is wrong, exactly zero, or cannot be checked; the message says which and where."""


@dataclass(frozen=True)
class Checked:
    """What was compared for one input or parameter."""

    name: str
    shape: tuple[int, ...]
    comparisons: int
    worst: float  # the largest relative difference seen


class _KinkError(Exception):
    """The function is not smooth between x - h and x + h, for any step h that was tried."""


def check_gradients(
    f: Any,
    inputs: Sequence[Any],
    *,
    only: Sequence[str] | None = None,
    eps: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    seed: int = 0,
) -> list[Checked]:
    """Compare the gradients of `f(*inputs)` with finite differences; raise where they differ.

    Parameters
    ----------
    f : a function of tensors that returns a tensor; or a module, whose parameters are then checked,
        too (on a float64 copy with random batch norm weights; the module itself is not touched)
    inputs : arrays. Floating-point ones are checked, in float64; others are passed as they are
    only : names of inputs ("input 0") and parameters to check; all by default
    eps, rtol, atol : step and tolerances: |a - b| <= atol + rtol * max(|a|, |b|)
    seed : of the cotangent, the directions and the sample

    Returns
    -------
    what was compared, a line for each input and parameter

    Raises
    ------
    GradientError
        naming the input, the element and both values. Near a kink (a ReLU at 0, two equal numbers
        in a max pool) the step is made smaller, then the point is moved; a wrong gradient at a
        smooth point is reported at once.
    """
    rng = np.random.default_rng(seed)
    for _ in range(NUDGES):
        try:
            return _Check(f, inputs, only, rng, eps, rtol, atol).run()
        except _KinkError:
            inputs = [
                x + 0.01 * rng.standard_normal(x.shape) if _is_float(x) else x for x in inputs
            ]
    raise GradientError("no smooth point was found near the inputs: move them away from the kink")


def _is_float(x: Any) -> bool:
    return getattr(getattr(x, "dtype", None), "kind", "") == "f"


class _Check:
    """One point at which gradients are compared."""

    def __init__(
        self,
        f: Any,
        inputs: Sequence[Any],
        only: Sequence[str] | None,
        rng: np.random.Generator,
        eps: float,
        rtol: float,
        atol: float,
    ) -> None:
        self.rng, self.eps, self.rtol, self.atol = rng, eps, rtol, atol
        self.f: Callable[..., Tensor] = f
        self.arguments = [
            Tensor(np.array(x, np.float64), requires_grad=True) if _is_float(x) else x
            for x in inputs
        ]
        variables = {f"input {i}": x for i, x in enumerate(self.arguments) if isinstance(x, Tensor)}
        if hasattr(f, "named_parameters"):
            self.f = module = _randomised_copy(f, rng)
            variables |= {name: p for name, p in module.named_parameters() if p.requires_grad}
        unknown = set(only or ()) - set(variables)
        if unknown:
            raise ValueError(f"only: {sorted(unknown)} is not among {sorted(variables)}")
        self.variables = {k: v for k, v in variables.items() if only is None or k in only}

        with no_grad():
            y = self.f(*self.arguments).data
            if not np.array_equal(y, self.f(*self.arguments).data, equal_nan=True):
                raise GradientError("f gives another result each time: seed its random numbers")
        self.c = rng.standard_normal(y.shape)
        self.at_rest = float(np.vdot(y, self.c))

    def run(self) -> list[Checked]:
        before = {name: v.data.copy() for name, v in self.variables.items()}
        cotangent = self.c.copy()
        for v in self.variables.values():
            v.grad = None
        self.f(*self.arguments).backward(cotangent)
        if not np.array_equal(cotangent, self.c):
            raise GradientError("backward wrote into the gradient that it was given")
        for name, v in self.variables.items():
            if not np.array_equal(before[name], v.data):
                raise GradientError(f"{name} was changed by the forward or the backward pass")
            if v.grad is None:
                raise GradientError(f"{name} received no gradient")
            if not v.grad.any():
                raise GradientError(f"the gradient of {name} is exactly zero: this checks nothing")
        return [self.check(name, v) for name, v in self.variables.items()]

    def check(self, name: str, v: Tensor) -> Checked:
        """Every element of a small variable; directions and a sample of a large one."""
        assert v.grad is not None
        worst, count = 0.0, 0
        for u in self.directions(v):
            expected = float(np.vdot(v.grad, u))
            measured, agree = self.compare(v, u, expected)
            if not agree:
                self.fail(name, v, u)
            worst = max(worst, abs(measured - expected) / max(abs(measured), abs(expected), 1e-300))
            count += 1
        return Checked(name, v.shape, count, worst)

    def directions(self, v: Tensor) -> Iterator[np.ndarray]:
        elements = np.arange(v.size)
        if v.size > FULL_UP_TO:
            for _ in range(DIRECTIONS):
                # Bounded below: no element's share is so small that its error would not show.
                u = self.rng.uniform(0.5, 1.5, v.shape) * self.rng.choice([-1.0, 1.0], v.shape)
                yield u / np.linalg.norm(u)
            elements = self.rng.choice(v.size, SAMPLES, replace=False)
        for i in elements:
            yield _unit(v.shape, int(i))

    def compare(self, v: Tensor, u: np.ndarray, expected: float) -> tuple[float, bool]:
        """(the slope along u, whether it is the expected one), dodging kinks by smaller steps."""
        for shrink in SMALLER_STEPS:
            h = self.eps * shrink
            up, down = self.value(v, h * u), self.value(v, -h * u)
            measured = (up - down) / (2 * h)
            # Rounding in L is divided by h: a smaller step needs a wider absolute tolerance.
            tolerance = self.atol / shrink + self.rtol * max(abs(measured), abs(expected))
            if abs(measured - expected) <= tolerance:
                return measured, True
            if self.is_smooth(v, u, h, up, down, tolerance):
                return measured, False
        raise _KinkError

    def is_smooth(
        self, v: Tensor, u: np.ndarray, h: float, up: float, down: float, tolerance: float
    ) -> bool:
        """Whether L looks smooth between x - h*u and x + h*u, judged by half the step.

        For a smooth L the slope does not change with the step, and the bend L(+h) - 2L + L(-h)
        falls by four when the step is halved. A kink breaks one of the two wherever it lies.
        """
        half_up, half_down = self.value(v, h / 2 * u), self.value(v, -h / 2 * u)
        slopes = abs((up - down) / (2 * h) - (half_up - half_down) / h)
        bend, half_bend = up - 2 * self.at_rest + down, half_up - 2 * self.at_rest + half_down
        return max(slopes, abs(bend - 4 * half_bend) / h) <= tolerance

    def value(self, v: Tensor, step: np.ndarray) -> float:
        """L with `v` moved by `step`."""
        rest = v.data
        v.data = rest + step
        try:
            with no_grad():
                return float(np.vdot(self.f(*self.arguments).data, self.c))
        finally:
            v.data = rest

    def fail(self, name: str, v: Tensor, u: np.ndarray) -> None:
        """Halve the wrong direction until one element is left, and report that one."""
        assert v.grad is not None
        while np.count_nonzero(u) > 1:
            elements = np.flatnonzero(u)
            half = np.zeros(v.size)
            kept = elements[: len(elements) // 2]
            half[kept] = u.flat[kept]
            half = half.reshape(v.shape)
            _, agree = self.compare(v, half, float(np.vdot(v.grad, half)))
            u = u - half if agree else half
        index = tuple(int(i) for i in np.unravel_index(np.flatnonzero(u)[0], v.shape))
        expected = float(v.grad[index])
        measured, _ = self.compare(v, _unit(v.shape, int(np.flatnonzero(u)[0])), expected)
        raise GradientError(
            f"the gradient of {name} (shape {v.shape}) is wrong at element {index}: "
            f"backward says {expected:.9g}, finite differences say {measured:.9g}"
        )


def _unit(shape: tuple[int, ...], i: int) -> np.ndarray:
    """One at element i (counted in C order), zero elsewhere."""
    u = np.zeros(int(np.prod(shape)))
    u[i] = 1
    return u.reshape(shape)


def _randomised_copy(module: Any, rng: np.random.Generator) -> Any:
    """A float64 copy whose batch norm weights (the one-dimensional ones) are random.

    A gamma that starts at zero, as the last one of a residual branch does, would make every
    gradient behind it zero.
    """
    module = copy.deepcopy(module).to(np.float64)
    for name, p in module.named_parameters():
        if p.ndim == 1 and name.endswith("weight"):
            p.data = rng.uniform(0.5, 1.5, p.shape)
    return module
