"""The tape: tensors that remember how they were made, and the way back through them.

A `Tensor` is an array and, where a gradient is wanted, the `Op` that made it. An op knows its input
tensors, so the tensors and ops of a forward pass form a graph. `backward` walks that graph from the
loss to the parameters: each op turns the gradient by its output, `gy`, into the gradients by its
inputs, and where a tensor was used more than once, its gradients add up (the chain rule; Griewank &
Walther 2008, "Evaluating Derivatives", section 3.2, reverse mode).

First order only: the gradients are plain arrays. There are no views and no in-place operations on
tensors, so what an op saved for its way back is still what it was. Optimizers do write into the
parameters; they count up `Tensor.version`, by which `backward` notices that it comes too late.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Union

import numpy as np

from resnet_np import kernels
from resnet_np.kernels import Array, get_array_module, is_floating, parameter_dtype, to_host

_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)

Operand = Union["Tensor", Array, float, int]
Watcher = Callable[["Op", "tuple[Tensor | None, ...]", "Tensor"], None]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is recorded: no tape, no saved arrays. For prediction and evaluation."""
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def is_recording() -> bool:
    """Whether ops go on the tape here; not inside `no_grad`."""
    return _grad_enabled.get()


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside, each op that has run is shown to `watcher`, with its inputs and its result."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class GradientSum:
    """The gradients of one tensor, added up as they come in.

    The first may be borrowed: it may be another tensor's gradient, too (a residual add passes its
    `gy` to both sides), so it is never written to. Later ones are added into an array that is ours:
    one that an op made for us alone, or else a new one.
    """

    def __init__(self, value: Array = None, owned: bool = False) -> None:
        self.value, self.owned = value, owned

    def add(self, g: Array, ours: bool) -> None:
        """Count `g` in; `ours` if nobody else holds it."""
        if self.value is None:
            self.value, self.owned = g, ours
            return
        into = self.value if self.owned else g if ours else None
        self.value, self.owned = kernels.of(g).add(self.value, g, out=into), True

    def own(self) -> Array:
        """The sum, as an array that nobody else holds."""
        xp = get_array_module(self.value)
        return xp.asarray(self.value) if self.owned else xp.array(self.value)


class Op:
    """One operation: arrays in, an array out, and the way back.

    A subclass takes its static attributes (a stride, an axis) in `__init__` and defines `forward`
    and `backward`. Before `forward` runs, `needs` says which inputs want a gradient; `forward` puts
    the arrays that the way back will read into `saved`, which its class's docstring lists.
    `backward` returns a gradient, or None, for each input. It never writes into `gy`, unless
    it is in nobody else's hands (`owns_gy`).
    """

    # Whether the gradients that `backward` returns are new, contiguous and in nobody else's hands.
    makes_gradients = False
    # Places of inputs that are parameters: in mixed precision they are float32, the others 16 bits.
    parameters: tuple[int, ...] = ()
    owns_gy = False  # whether this is so of the gy that `backward` is given
    # Whether the first gradient that `backward` returns is added to `so_far`: the sum of those that
    # this input has from other ops. A kernel that writes gx anyway adds at no cost.
    adds_to_gx = False
    so_far = GradientSum()
    needs: tuple[bool, ...] = ()
    saved: Any = None
    inputs: "tuple[Tensor | None, ...]" = ()
    versions: tuple[int, ...] = ()
    released = False

    def forward(self, *arrays: Any) -> Array:
        raise NotImplementedError

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        raise NotImplementedError

    def __call__(self, *inputs: "Tensor | None") -> "Tensor":
        """Run forward; record the op only if some input requires a gradient."""
        check_tensors(type(self).__name__, *inputs)
        _check_alike(type(self).__name__, inputs, self.parameters)
        enabled = _grad_enabled.get()
        self.needs = tuple(enabled and t is not None and t.requires_grad for t in inputs)
        result = self.forward(*(None if t is None else t.data for t in inputs))
        # An operation on arrays without axes makes a NumPy number: turned back into an array.
        y = Tensor(get_array_module(result).asarray(result))
        if any(self.needs):
            y.requires_grad = True
            y.op = self
            self.inputs, self.versions = inputs, _versions(inputs)
        if (watcher := _watcher.get()) is not None:
            watcher(self, inputs, y)
        return y

    def release(self) -> None:
        """Let go of everything that the way back needed."""
        self.saved, self.inputs, self.so_far, self.released = None, (), GradientSum(), True


class Tensor:
    """An array with a place on the tape.

    Parameters
    ----------
    data : a NumPy or CuPy array, kept as it is; or numbers and lists, which become float32
    requires_grad : whether `backward` shall fill `grad`

    Attributes
    ----------
    data : the array
    version : counted up by whoever changes `data` after the tensor was used: optimizers,
        `load_state_dict`
    grad : an array of the same shape after `backward`, on tensors that the user made; else None
    op : the op that made this tensor; None for a tensor that the user made (a leaf)

    There is no indexing: slice the array before it becomes a tensor.
    """

    __array_ufunc__ = None  # `array * tensor` is ours to answer, not NumPy's

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("Tensor(data): data is a Tensor already")
        if not hasattr(data, "dtype"):
            data = np.asarray(data, np.float32)
        if requires_grad and not is_floating(data.dtype):
            raise TypeError(f"requires_grad needs floating-point data, not {data.dtype}")
        self.data: Array = data
        self.version = 0
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self.op: Op | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        flag = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({self.data!r}{flag})"

    def numpy(self) -> np.ndarray:
        """The data as a NumPy array: the same memory on the CPU, a copy from the GPU."""
        return to_host(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Refused: NumPy would leave the tape, or move data from the GPU, without being asked."""
        raise TypeError("a Tensor is not turned into an array silently: use tensor.numpy()")

    def item(self) -> float:
        """The one number of a tensor that holds one."""
        return float(self.data.item())

    def backward(self, gy: Array | None = None) -> None:
        """Add the gradient of this tensor to `grad` of every leaf that it depends on.

        `gy` is the gradient of the final result by this tensor. It is 1 for a loss of one number,
        and must be given for anything larger.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward(): nothing that this tensor depends on requires a gradient"
            )
        if gy is None:
            if self.size != 1:
                raise ValueError(f"backward() on shape {self.shape} needs gy of the same shape")
            gy = get_array_module(self.data).ones_like(self.data)
        if isinstance(gy, Tensor) or not hasattr(gy, "dtype"):
            raise TypeError(f"backward(gy): gy must be an array, not {type(gy).__name__}")
        if gy.shape != self.shape or gy.dtype != self.dtype:
            raise ValueError(
                f"backward(gy): gy is {gy.dtype} {gy.shape}, the tensor {self.dtype} {self.shape}"
            )
        _run_backward(self, gy)

    # The arithmetic is in arithmetic.py; these are its operators.

    def __add__(self, other: Operand) -> "Tensor":
        return arithmetic.add(self, other)

    __radd__ = __add__

    def __mul__(self, other: Operand) -> "Tensor":
        return arithmetic.multiply(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> "Tensor":
        return arithmetic.multiply(self, -1)

    def __sub__(self, other: Operand) -> "Tensor":
        return arithmetic.subtract(self, other)

    def __rsub__(self, other: Operand) -> "Tensor":
        return arithmetic.add(-self, other)

    def __truediv__(self, other: Operand) -> "Tensor":
        return arithmetic.divide(self, other)

    def __rtruediv__(self, other: Operand) -> "Tensor":
        return arithmetic.multiply(self**-1, other)

    def __pow__(self, exponent: float) -> "Tensor":
        return arithmetic.power(self, exponent)

    def __matmul__(self, other: Operand) -> "Tensor":
        return arithmetic.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> "Tensor":
        return arithmetic.matmul(as_tensor(other, self), self)

    def astype(self, dtype: Any) -> "Tensor":
        return arithmetic.astype(self, dtype)

    def exp(self) -> "Tensor":
        return arithmetic.exp(self)

    def log(self) -> "Tensor":
        return arithmetic.log(self)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor":
        return arithmetic.sum(self, axis, keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor":
        return arithmetic.mean(self, axis, keepdims)

    def max(self, axis: int | None = None, keepdims: bool = False) -> "Tensor":
        return arithmetic.max(self, axis, keepdims)

    def reshape(self, *shape: int | tuple[int, ...]) -> "Tensor":
        return arithmetic.reshape(self, _numbers(shape))

    def transpose(self, *axes: int | tuple[int, ...]) -> "Tensor":
        return arithmetic.transpose(self, _numbers(axes))


def _numbers(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """(3, 2) from f(3, 2) and from f((3, 2))."""
    one_tuple = len(arguments) == 1 and isinstance(arguments[0], tuple | list)
    return tuple(arguments[0]) if one_tuple else arguments


def as_tensor(value: Operand, like: Tensor) -> Tensor:
    """An operand as a tensor: plain numbers take the dtype and device of `like`."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, int | float | np.number):
        if isinstance(value, float | np.floating) and not is_floating(like.dtype):
            raise TypeError(
                f"{value!r} would be rounded to {like.dtype}: make the tensor of floating-point "
                "numbers, Tensor(x.astype(numpy.float32))"
            )
        return Tensor(get_array_module(like.data).asarray(value, like.dtype))
    return Tensor(value)


def _run_backward(root: Tensor, gy: Array) -> None:
    """Visit every op after all the ops that used its output, without recursion."""
    uses = _count_uses(root)
    sums: dict[Tensor | None, GradientSum] = {root: GradientSum(gy, owned=False)}
    ready, leaves = [root], []
    while ready:
        tensor = ready.pop()
        op = tensor.op
        if op is None:
            leaves.append(tensor)
            continue
        op.owns_gy = sums[tensor].owned
        if op.adds_to_gx:
            op.so_far = sums.pop(op.inputs[0], op.so_far)
        # Popped, so that this gradient is freed as soon as the op has used it.
        gradients = op.backward(sums.pop(tensor).value)
        for x, need, gx in zip(op.inputs, op.needs, gradients, strict=True):
            if x is None or not need:
                continue
            if gx is None or gx.shape != x.shape or gx.dtype != x.dtype:
                got = "no gradient" if gx is None else f"a gradient of {gx.dtype} {gx.shape}"
                name = type(op).__name__
                raise RuntimeError(f"{name}.backward made {got} for {x.dtype} {x.shape}")
            sums.setdefault(x, GradientSum()).add(gx, op.makes_gradients)
            uses[x] -= 1
            if uses[x] == 0:
                ready.append(x)
        op.release()
    for leaf in leaves:
        g = sums.pop(leaf).own()
        if leaf.grad is not None:
            g += leaf.grad
        leaf.grad = g


def _count_uses(root: Tensor) -> dict[Tensor, int]:
    """How often each tensor behind `root` is used as an input of an op behind `root`."""
    uses: dict[Tensor, int] = {root: 0}
    stack = [root]
    while stack:
        op = stack.pop().op
        if op is None:
            continue
        if op.released:
            raise RuntimeError("backward() was called before: run the forward pass again")
        if op.versions != _versions(op.inputs):
            raise RuntimeError(
                f"{type(op).__name__}: an input was changed after the forward pass (by an "
                "optimizer, load_state_dict or to): run the forward pass again"
            )
        for x, need in zip(op.inputs, op.needs, strict=True):
            if x is None or not need:
                continue
            if x not in uses:
                uses[x] = 0
                stack.append(x)
            uses[x] += 1
    return uses


def _versions(inputs: "tuple[Tensor | None, ...]") -> tuple[int, ...]:
    return tuple(t.version for t in inputs if t is not None)


def check_tensors(name: str, *inputs: Any) -> None:
    """Raise TypeError, in the name of a function, unless each of its inputs is a Tensor or None."""
    for x in inputs:
        if not isinstance(x, Tensor | None):
            raise TypeError(
                f"{name}: inputs must be Tensors, not {type(x).__name__}; wrap the array: "
                "resnet_np.Tensor(x)"
            )


def _check_alike(
    name: str, inputs: "tuple[Tensor | None, ...]", parameters: tuple[int, ...]
) -> None:
    """Inputs of one op share dtype and device: nothing is cast or moved silently.

    On a GPU, parameters may be float32 where x, which comes first, has 16 bits.
    """
    present = {i: t for i, t in enumerate(inputs) if t is not None}
    x = present[min(present)]
    module, dtypes = get_array_module(x.data), {x.dtype}
    mixed = dtypes if module is np else {x.dtype, parameter_dtype(x.dtype)}
    for i, t in present.items():
        if get_array_module(t.data) is module and t.dtype in (mixed if i in parameters else dtypes):
            continue
        kinds = {f"{t.dtype} ({get_array_module(t.data).__name__})" for t in present.values()}
        listed = ", ".join(sorted(kinds))
        raise TypeError(f"{name}: the inputs must share one dtype and one device, not {listed}")


from resnet_np.autograd import arithmetic  # noqa: E402 -- it needs the classes above
