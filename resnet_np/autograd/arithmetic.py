"""Arithmetic with broadcasting: what a learner needs to play, and losses are made of.

Each op is a class with its two directions, and a lower-case function below it that people call.
"""

from typing import Any

import numpy as np

from resnet_np.autograd.tensor import Op, Operand, Tensor, as_tensor, check_tensors
from resnet_np.kernels import Array, get_array_module, is_floating

Axis = int | tuple[int, ...] | None


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum `g` down to `shape`: the way back of NumPy's broadcasting.

    A number that was repeated along an axis has that many effects on the result, and they add up.
    """
    extra = g.ndim - len(shape)
    repeated = tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    if extra or repeated:
        g = g.sum(axis=(*range(extra), *repeated), keepdims=True)
    return g.reshape(shape)


class Add(Op):
    """y = a + b. Saved: the shapes."""

    def forward(self, a: Array, b: Array) -> Array:
        self.saved = a.shape, b.shape
        return a + b

    def backward(self, gy: Array) -> tuple[Array | None, Array | None]:
        ga = unbroadcast(gy, self.saved[0]) if self.needs[0] else None
        gb = unbroadcast(gy, self.saved[1]) if self.needs[1] else None
        return ga, gb


def add(a: Tensor, b: Operand) -> Tensor:
    """a + b. The gradient goes to both, unchanged."""
    return Add()(a, as_tensor(b, a))


class Subtract(Op):
    """y = a - b. Saved: the shapes."""

    def forward(self, a: Array, b: Array) -> Array:
        self.saved = a.shape, b.shape
        return a - b

    def backward(self, gy: Array) -> tuple[Array | None, Array | None]:
        ga = unbroadcast(gy, self.saved[0]) if self.needs[0] else None
        gb = unbroadcast(-gy, self.saved[1]) if self.needs[1] else None
        return ga, gb


def subtract(a: Tensor, b: Operand) -> Tensor:
    """a - b."""
    return Subtract()(a, as_tensor(b, a))


class Multiply(Op):
    """y = a * b. Saved: a and b."""

    def forward(self, a: Array, b: Array) -> Array:
        self.saved = a, b
        return a * b

    def backward(self, gy: Array) -> tuple[Array | None, Array | None]:
        a, b = self.saved
        ga = unbroadcast(gy * b, a.shape) if self.needs[0] else None
        gb = unbroadcast(gy * a, b.shape) if self.needs[1] else None
        return ga, gb


def multiply(a: Tensor, b: Operand) -> Tensor:
    """a * b. Each side's gradient is gy times the other side."""
    return Multiply()(a, as_tensor(b, a))


class Divide(Op):
    """y = a / b. Saved: a and b."""

    def forward(self, a: Array, b: Array) -> Array:
        self.saved = a, b
        return a / b

    def backward(self, gy: Array) -> tuple[Array | None, Array | None]:
        a, b = self.saved
        ga = unbroadcast(gy / b, a.shape) if self.needs[0] else None
        gb = unbroadcast(-gy * a / (b * b), b.shape) if self.needs[1] else None
        return ga, gb


def divide(a: Tensor, b: Operand) -> Tensor:
    """a / b."""
    return Divide()(a, as_tensor(b, a))


class Power(Op):
    """y = x ** exponent for a constant exponent. Saved: x."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def forward(self, x: Array) -> Array:
        self.saved = x
        return x**self.exponent

    def backward(self, gy: Array) -> tuple[Array]:
        if self.exponent == 0:  # a constant, at x = 0 as well, where the formula says 0 * infinity
            return (get_array_module(gy).zeros_like(gy),)
        return (gy * self.exponent * self.saved ** (self.exponent - 1),)


def power(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent; gx = gy * exponent * x ** (exponent - 1)."""
    if not is_floating(x.dtype):
        raise TypeError(f"x ** exponent, and number / x, need floating-point x, not {x.dtype}")
    return Power(float(exponent))(x)


class Cast(Op):
    """y = x in another floating-point dtype. Saved: x's dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, x: Array) -> Array:
        self.saved = x.dtype
        return x.astype(self.dtype)

    def backward(self, gy: Array) -> tuple[Array]:
        return (gy.astype(self.saved),)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """x, rounded to another floating-point dtype; the gradient is rounded back to x's."""
    dtype = np.dtype(dtype)
    if not (is_floating(dtype) and is_floating(x.dtype)):
        raise TypeError(f"astype: floating-point numbers only, not {x.dtype} to {dtype}")
    return x if x.dtype == dtype else Cast(dtype)(x)


class MatMul(Op):
    """y = a @ b. Saved: a and b."""

    def forward(self, a: Array, b: Array) -> Array:
        if a.ndim < 2 or b.ndim < 2:
            raise ValueError(
                f"a @ b needs at least two axes on each side, not {a.shape}, {b.shape}"
            )
        self.saved = a, b
        return a @ b

    def backward(self, gy: Array) -> tuple[Array | None, Array | None]:
        a, b = self.saved
        ga = unbroadcast(gy @ b.swapaxes(-1, -2), a.shape) if self.needs[0] else None
        gb = unbroadcast(a.swapaxes(-1, -2) @ gy, b.shape) if self.needs[1] else None
        return ga, gb


def matmul(a: Tensor, b: Operand) -> Tensor:
    """a @ b: [..., N, C] @ [..., C, K] -> [..., N, K]; ga = gy @ b.T and gb = a.T @ gy."""
    return MatMul()(a, as_tensor(b, a))


class Exp(Op):
    """y = exp(x). Saved: y, since that is its own derivative."""

    def forward(self, x: Array) -> Array:
        self.saved = get_array_module(x).exp(x)
        return self.saved

    def backward(self, gy: Array) -> tuple[Array]:
        return (gy * self.saved,)


def exp(x: Tensor) -> Tensor:
    """The exponential of each number."""
    return Exp()(x)


class Log(Op):
    """y = log(x). Saved: x."""

    def forward(self, x: Array) -> Array:
        self.saved = x
        return get_array_module(x).log(x)

    def backward(self, gy: Array) -> tuple[Array]:
        return (gy / self.saved,)


def log(x: Tensor) -> Tensor:
    """The natural logarithm of each number."""
    return Log()(x)


class Sum(Op):
    """y = sum of x over some axes. Saved: the shape of x."""

    def __init__(self, axis: Axis, keepdims: bool) -> None:
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x: Array) -> Array:
        self.saved = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Array) -> tuple[Array]:
        xp = get_array_module(gy)
        return (xp.broadcast_to(_with_axes(gy, self.axis, self.keepdims), self.saved),)


def _with_axes(y: Array, axis: Axis, keepdims: bool) -> Array:
    """`y` with the axes that a reduction took away put back as ones, ready to broadcast."""
    if axis is None or keepdims:
        return y
    return get_array_module(y).expand_dims(y, axis)


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis` (all axes by default). Every summand gets the sum's gradient."""
    return Sum(axis, keepdims)(x)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis` (all axes by default): the sum divided by how many there are."""
    total = sum(x, axis, keepdims)
    return total * (total.size / x.size)


class Max(Op):
    """y = the largest of x along an axis. Saved: x and y."""

    def __init__(self, axis: int | None, keepdims: bool) -> None:
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x: Array) -> Array:
        y = x.max(axis=self.axis, keepdims=self.keepdims)
        self.saved = x, y
        return y

    def backward(self, gy: Array) -> tuple[Array]:
        x, y = self.saved
        wins = (x == _with_axes(y, self.axis, self.keepdims)) | (x != x)  # a NaN always wins
        count = wins.sum(axis=self.axis, keepdims=True, dtype=gy.dtype)
        share = _with_axes(gy, self.axis, self.keepdims) / count  # as in PyTorch's amax
        return (get_array_module(gy).where(wins, share, 0),)


def max(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The largest number along `axis` (of all by default); the gradient goes to it alone.

    Equal ones share it.
    """
    return Max(axis, keepdims)(x)


class Reshape(Op):
    """y = x in another shape. Saved: the shape of x."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.saved = x.shape
        return x.reshape(self.shape)

    def backward(self, gy: Array) -> tuple[Array]:
        return (gy.reshape(self.saved),)


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same numbers in the same order, in another shape."""
    return Reshape(shape)(x)


def flatten(x: Tensor) -> Tensor:
    """[N, H, W, C] -> [N, H*W*C]."""
    check_tensors("flatten", x)
    return reshape(x, (len(x), -1))


class Transpose(Op):
    """y = x with its axes in another order. Saved: nothing but the order."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, x: Array) -> Array:
        self.axes = tuple(i % x.ndim for i in self.axes) or tuple(reversed(range(x.ndim)))
        return x.transpose(self.axes)

    def backward(self, gy: Array) -> tuple[Array]:
        back: list[Any] = [self.axes.index(i) for i in range(gy.ndim)]
        return (gy.transpose(back),)


def transpose(x: Tensor, axes: tuple[int, ...] = ()) -> Tensor:
    """The axes in another order; reversed by default."""
    return Transpose(axes)(x)
