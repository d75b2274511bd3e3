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

Two things disturb the differences. A step may cross a kink (a ReLU's input passes 0), and a deep
network has so many that any step of 1e-5 crosses some: then a smaller step is tried. And L carries
rounding noise, which is divided by the step: it is measured, and a step in which it would hide an
error of one part in ten thousand is not taken.

f runs where its inputs lie, on the CPU or on a GPU; what is compared is brought to the CPU.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.autograd.tensor import Tensor, no_grad
from resnet_np.kernels import Array, get_array_module, to_host

FULL_UP_TO = 256  # elements: more than that is checked along directions and by sample
DIRECTIONS = 4
SAMPLES = 16
SPARE = 3  # candidates for each direction or sample, since some will lie across a kink
STEPS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # of eps, tried in turn where a kink is near
NUDGES = 3  # fresh starting points, where one lies on a kink
NOISE_STEP = 1e-12  # so small that L stays the same but for rounding
NOISE_FACTOR = 10.0  # standard deviations of L's rounding noise that a difference may show
HIDDEN_ERROR = 1e-4  # the largest error, as a share of the gradient, that noise may hide


class GradientError(AssertionError):
    """A gradient is wrong, exactly zero, or cannot be checked; the message says which and where."""


@dataclass(frozen=True)
class Checked:
    """What was compared for one input or parameter."""

    name: str
    shape: tuple[int, ...]
    comparisons: int
    worst: float  # the largest difference seen, relative to the variable's typical gradient


class _KinkError(Exception):
    """The function is not smooth between x - h and x + h, for any step h that can be used."""


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
        too (on a float64 copy, batch norms and biases randomised; the module is not touched).
        Random numbers must be the same in each call: `lambda x: dropout(x, 0.5, default_rng(0))`;
        a module with dropout is checked in evaluation mode.
    inputs : arrays. Floating-point ones are checked, in float64; others are passed as they are.
        Those on a GPU stay there, and a module has to be there, too
    only : names of inputs ("input 0") and parameters to check; all by default
    eps, rtol, atol : step and tolerances: |a - b| <= atol + rtol * max(|a|, |b|) + the rounding
        noise of the difference (as measured; nothing to speak of but in deep networks)
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
    TypeError, ValueError
        if f returns no Tensor, or if there is nothing to check
    """
    rng = np.random.default_rng(seed)
    inputs = [x.data if isinstance(x, Tensor) else x for x in inputs]
    for _ in range(NUDGES):
        try:
            return _Check(f, inputs, only, rng, eps, rtol, atol).run()
        except _KinkError as kink:
            where = str(kink)
            inputs = [
                x + _beside(0.01 * rng.standard_normal(x.shape), x) if _is_float(x) else x
                for x in inputs
            ]
    raise GradientError(
        f"no smooth point was found to check {where} at: move the inputs away from the kink, or "
        "leave it out (only=[...]) if its gradient is zero but for rounding"
    )


def _is_float(x: Any) -> bool:
    return getattr(getattr(x, "dtype", None), "kind", "") == "f"


def _beside(x: np.ndarray, other: Array) -> Array:
    """`x` on the device of `other`."""
    return get_array_module(other).asarray(x)


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
            Tensor(get_array_module(x).array(x, np.float64), requires_grad=True)
            if _is_float(x)
            else x
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
        if not self.variables:
            raise ValueError("nothing to check: no floating-point input, no trainable parameter")
        self.before = {name: v.numpy().copy() for name, v in variables.items()}
        self.all_variables = variables

        with no_grad():
            result = self.f(*self.arguments)
            if not isinstance(result, Tensor):
                raise TypeError(f"f must return one Tensor, not {type(result).__name__}")
            y = result.numpy()
            self.check_unchanged()
            if not np.isfinite(y).all():
                raise GradientError("f gives NaN or infinity here")
            if not np.array_equal(y, self.f(*self.arguments).numpy()):
                raise GradientError("f gives another result each time: seed its random numbers")
        self.c = rng.standard_normal(y.shape)
        self.at_rest = float(np.vdot(y, self.c))

    def run(self) -> list[Checked]:
        y = self.f(*self.arguments)
        cotangent = _beside(self.c.copy(), y.data)
        y.backward(cotangent)
        if not np.array_equal(to_host(cotangent), self.c):
            raise GradientError("backward wrote into the gradient that it was given")
        self.check_unchanged()
        for name, v in self.variables.items():
            if v.grad is None:
                raise GradientError(f"{name} received no gradient")
            v.grad = to_host(v.grad)
            if not v.grad.any():
                raise GradientError(f"the gradient of {name} is exactly zero: this checks nothing")
        self.noise = self.rounding_noise()
        return [self.check(name, v) for name, v in self.variables.items()]

    def check_unchanged(self) -> None:
        for name, v in self.all_variables.items():
            if not np.array_equal(self.before[name], v.numpy()):
                raise GradientError(f"{name} was changed by the forward or the backward pass")

    def rounding_noise(self) -> float:
        """The standard deviation of the rounding error in L.

        Neighbouring points so close that L is a straight line between them but for its rounding:
        third differences hold nothing of a line, and the noise times sqrt(1 + 9 + 9 + 1) (More &
        Wild 2011, "Estimating computational noise"). It is never less than the last digit of L.
        """
        v = next(iter(self.variables.values()))
        u = self.dense_direction(v)
        values = [self.value(v, k * NOISE_STEP * u) for k in range(8)]
        measured = np.median(np.abs(np.diff(values, n=3))) / 20**0.5
        return max(float(measured), float(np.spacing(abs(self.at_rest))))

    def check(self, name: str, v: Tensor) -> Checked:
        """Every element of a small variable; directions and a sample of a large one."""
        assert v.grad is not None
        # What a unit step in a random direction changes, whether it moves one element or all.
        self.typical = float(np.sqrt(np.mean(v.grad**2)))
        worst, count, self.first_step = 0.0, 0, 0
        for candidates, needed in self.directions(v):
            compared = 0
            for u in candidates:
                expected = float(np.vdot(v.grad, u))
                try:
                    measured, agree = self.compare(v, u, expected)
                except _KinkError:
                    continue
                if not agree:
                    self.fail(name, v, u)
                worst = max(worst, abs(measured - expected) / self.typical)
                compared += 1
                if compared == needed:
                    break
            if compared < needed:
                raise _KinkError(name)
            count += compared
        return Checked(name, v.shape, count, worst)

    def directions(self, v: Tensor) -> Iterator[tuple[Iterator[np.ndarray], int]]:
        """(candidates, how many of them are to be compared)."""
        if v.size <= FULL_UP_TO:
            yield (_unit(v.shape, i) for i in range(v.size)), v.size
            return
        yield (self.dense_direction(v) for _ in range(SPARE * DIRECTIONS)), DIRECTIONS
        elements = self.rng.choice(v.size, min(SPARE * SAMPLES, v.size), replace=False)
        yield (_unit(v.shape, int(i)) for i in elements), SAMPLES

    def dense_direction(self, v: Tensor) -> np.ndarray:
        """Of length 1, bounded below: no element's share is too small for its error to show."""
        u = self.rng.uniform(0.5, 1.5, v.shape) * self.rng.choice([-1.0, 1.0], v.shape)
        return u / np.linalg.norm(u)

    def compare(self, v: Tensor, u: np.ndarray, expected: float) -> tuple[float, bool]:
        """(the slope along u, whether it is the expected one), dodging kinks by smaller steps.

        Where kinks are so dense that a step had to be made smaller, later directions start with it.
        """
        for i in range(self.first_step, len(STEPS)):
            h = self.eps * STEPS[i]
            rounding = NOISE_FACTOR * self.noise / h
            if rounding > max(self.atol, HIDDEN_ERROR * max(self.typical, abs(expected))):
                break
            up, down = self.value(v, h * u), self.value(v, -h * u)
            measured = (up - down) / (2 * h)
            tolerance = self.atol + self.rtol * max(abs(measured), abs(expected)) + rounding
            difference = abs(measured - expected)
            if difference <= tolerance:
                self.first_step = i
                return measured, True
            # A kink that explains the difference would show as at least a third of it.
            if self.roughness(v, u, h, up, down) <= min(tolerance, difference / 4):
                return measured, False
        raise _KinkError

    def roughness(self, v: Tensor, u: np.ndarray, h: float, up: float, down: float) -> float:
        """How far L is from smooth between x - h*u and x + h*u, judged by half the step.

        For a smooth L the slope does not change with the step, and the bend L(+h) - 2L + L(-h)
        falls by four when the step is halved. A kink breaks one of the two wherever it lies.
        """
        half_up, half_down = self.value(v, h / 2 * u), self.value(v, -h / 2 * u)
        slopes = abs((up - down) / (2 * h) - (half_up - half_down) / h)
        bend, half_bend = up - 2 * self.at_rest + down, half_up - 2 * self.at_rest + half_down
        return max(slopes, abs(bend - 4 * half_bend) / (2 * h))

    def value(self, v: Tensor, step: np.ndarray) -> float:
        """L with `v` moved by `step`."""
        rest = v.data
        v.data = rest + _beside(step, rest)
        try:
            with no_grad():
                return float(np.vdot(self.f(*self.arguments).numpy(), self.c))
        finally:
            v.data = rest

    def fail(self, name: str, v: Tensor, u: np.ndarray) -> None:
        """Halve the wrong direction, towards the larger error, until one element is left."""
        assert v.grad is not None
        _, measured, expected = self.error(v, u)
        where = "along a random direction"
        one = u
        while np.count_nonzero(one) > 1:
            elements = np.flatnonzero(one)
            half = np.zeros(v.size)
            half[elements[: len(elements) // 2]] = 1
            half = half.reshape(v.shape)
            one = max(half * one, (1 - half) * one, key=lambda part: self.error(v, part)[0])
        i = int(np.flatnonzero(one)[0])
        error, slope, claim = self.error(v, _unit(v.shape, i))
        if error > 0:
            where = f"at element {tuple(int(n) for n in np.unravel_index(i, v.shape))}"
            measured, expected = slope, claim
        raise GradientError(
            f"the gradient of {name} (shape {v.shape}) is wrong {where}: "
            f"backward says {expected:.9g}, finite differences say {measured:.9g}"
        )

    def error(self, v: Tensor, u: np.ndarray) -> tuple[float, float, float]:
        """(how wrong the slope along u is, measured, expected); 0 if right or across a kink."""
        assert v.grad is not None
        expected = float(np.vdot(v.grad, u))
        try:
            measured, agree = self.compare(v, u, expected)
        except _KinkError:
            return 0.0, expected, expected
        return (0.0 if agree else abs(measured - expected)), measured, expected


def _unit(shape: tuple[int, ...], i: int) -> np.ndarray:
    """One at element i (counted in C order), zero elsewhere."""
    u = np.zeros(int(np.prod(shape)))
    u[i] = 1
    return u.reshape(shape)


def _randomised_copy(module: Any, rng: np.random.Generator) -> Any:
    """A float64 copy with random batch norm weights, and with all biases moved.

    A gamma that starts at zero, as the last one of a residual branch does, would make every
    gradient behind it zero. Biases of zero put a unit whose inputs are all zero exactly on the kink
    of its ReLU, where no other input moves it from.
    """
    module = copy.deepcopy(module).to(np.float64)
    for name, p in module.named_parameters():
        if p.ndim == 1 and name.endswith("weight"):
            p.data = _beside(rng.uniform(0.5, 1.5, p.shape), p.data)
        elif p.ndim == 1:
            p.data = p.data + _beside(0.1 * rng.standard_normal(p.shape), p.data)
    return module
