"""`cupy.ndarray`: a NumPy array that is hidden, in memory of the card's."""

import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from cupy import standin
from cupy.cuda import memory, stream


class Flags:
    def __init__(self, flags: Any) -> None:
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())


class ndarray:  # noqa: N801
    """Made by the module's functions, or as CuPy does: shape, dtype, and where it lies."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: memory.MemoryPointer | None = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        dtype = np.dtype(dtype)
        count = int(np.prod(shape))
        if memptr is None:
            # NumPy's bool has no other bits than the last.
            memptr = memory.alloc(count * dtype.itemsize, 1 if dtype.kind == "b" else 0xFF)
        offset = memptr.ptr - memptr.mem.ptr
        self._memory = memptr.mem
        self._array = np.ndarray(shape, dtype, memptr.mem.bytes(), offset, strides, order)

    # --- what it is ---

    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    itemsize = property(lambda self: self._array.itemsize)
    nbytes = property(lambda self: self._array.nbytes)
    T = property(lambda self: self.transpose())
    flags = property(lambda self: Flags(self._array.flags))
    device = property(lambda self: _device())

    @property
    def data(self) -> memory.MemoryPointer:
        offset = self._array.ctypes.data - self._memory.ptr if self._memory.size else 0
        return memory.MemoryPointer(self._memory, offset)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[i] for i in range(len(self)))

    # --- to the host ---

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        return download(self, stream, order, out, blocking)

    def item(self, *index: Any) -> Any:
        return self.get().item(*index)

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> "ndarray":
        """`np.float32(2) * x` comes here, and `np.exp(x)`: they become CuPy's."""
        import cupy

        if method != "__call__":
            raise TypeError(f"the stand-in has no {ufunc.__name__}.{method} for NumPy to call")
        kwargs["out"] = kwargs.pop("out", (None,))[0]
        return getattr(cupy, ufunc.__name__)(*args, **kwargs)

    # --- from the host ---

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        upload(arr, self, stream)

    # --- indexing ---

    def __getitem__(self, index: Any) -> "ndarray":
        return compute("getitem", operator.getitem, self, _index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray | list | tuple):
            if np.size(value) != 1:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = np.asarray(value).reshape(())[()]
        _check_operands(value)
        change("setitem", operator.setitem, self, _index(index), value)

    def fill(self, value: Any) -> None:
        self[...] = value

    # --- dtypes and copies ---

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> "ndarray":
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return compute("astype", lambda x: x.astype(dtype, order), self)

    def view(self, dtype: Any = None) -> "ndarray":
        return compute("view", lambda x: x.view() if dtype is None else x.view(dtype), self)

    def copy(self, order: str = "C") -> "ndarray":
        return compute("copy", lambda x: x.copy(order), self)

    def flatten(self, order: str = "C") -> "ndarray":
        return compute("flatten", lambda x: x.flatten(order), self)

    def __copy__(self) -> "ndarray":
        return self.copy()

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return self.copy()


def _device() -> Any:
    from cupy.cuda import device

    return device.Device(0)


def _index(index: Any) -> Any:
    """Lists and NumPy arrays as indices are copied to the card; a mask's count comes from there."""
    import cupy

    parts = [
        cupy.asarray(part) if isinstance(part, np.ndarray | list) else part
        for part in (index if isinstance(index, tuple) else (index,))
    ]
    if any(isinstance(part, ndarray) and part.dtype.kind == "b" for part in parts):
        standin.record.synchronisations += 1
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)  # NumPy would make a number of a single element, and not a view
    return tuple(parts)


def _check_operands(*args: Any) -> None:
    """Only arrays of the card and numbers may meet."""
    for value in args:
        if type(value) not in (bool, int, float, complex) and not isinstance(
            value, ndarray | np.generic
        ):
            raise TypeError(f"Unsupported type {type(value)}")


# --- work on the card ----------------------------------------------------------------------------


def names(text: str) -> set[str]:
    return set(text.split())


# What may be a view, and then is no work: only shape and strides are new.
VIEWS = names(
    """
    as_strided broadcast_to diagonal expand_dims getitem moveaxis ravel reshape rollaxis split
    squeeze swapaxes transpose view
    """
)
# Sums over numbers of 16 bits: the card adds up in float32.
SUMS = names("dot inner matmul mean prod std sum tensordot var")
PRODUCTS = names("dot einsum inner matmul tensordot vdot")  # cuBLAS computes them
# What a reduction can be told by name: less than NumPy's.
REDUCTIONS = {
    **dict.fromkeys(names("all any amax amin max min"), names("axis out keepdims")),
    **dict.fromkeys(names("argmax argmin"), names("axis dtype out keepdims")),
    **dict.fromkeys(names("mean prod sum"), names("axis dtype out keepdims")),
    **dict.fromkeys(names("std var"), names("axis dtype out ddof keepdims")),
}


def check_options(name: str, given: Any, known: set[str] | None) -> None:
    if known is not None and set(given) - known:
        raise TypeError(f"{name}() got an unexpected keyword argument {set(given) - known}")


def compute(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A new array, or a view of an old one.

    How large a result is shows when it was computed: so it is computed at once, after all work that
    is late on this stream. A graph computes it again, into the same place.
    """
    _check_card(name)
    sources = list(devices((args, kwargs)))
    work = partial(_computed, name, function, hidden(args), hidden(kwargs))
    if name in VIEWS and (view := _view(work(), sources)) is not None:
        return view
    standin.check_library("nvrtc")  # which compiles CuPy's own kernels, too
    now = stream.get_current_stream()
    if not now.is_capturing():
        now.catch_up()
        standin.record.operations.append(name)
        return _on_card(work())
    result = _on_card(work())
    assert isinstance(result, ndarray), f"the stand-in cannot capture {name}"
    change(name, lambda out: operator.setitem(out, ..., work()), result, keep=sources)
    return result


def change(
    name: str, function: Callable[..., Any], *args: Any, keep: Any = (), **kwargs: Any
) -> None:
    """Run a function that writes into an array that is there."""
    _check_card(name)
    standin.check_library("nvrtc")
    memories = [x._memory for x in devices((args, kwargs, keep))]
    run = partial(_computed, name, function, hidden(args), hidden(kwargs))

    def work() -> None:
        standin.record.operations.append(name)
        run()

    stream.get_current_stream().submit(work, *memories)


def _check_card(name: str) -> None:
    standin.check_device()
    if name in PRODUCTS:
        from cupy_backends.cuda.libs import cublas

        cublas.check_capture()


def _computed(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What NumPy computes, where CuPy computes the same; else what CuPy does."""
    arrays = [a for a in _flat(args) if isinstance(a, np.ndarray)]
    dtypes = {a.dtype for a in arrays}
    with np.errstate(all="ignore"):  # the card has no warnings
        if dtypes == {np.dtype(ml_dtypes.bfloat16)}:  # Python's numbers would widen the result
            args = [arrays[0].dtype.type(a) if type(a) is float else a for a in args]
        if name not in SUMS or len(dtypes) != 1 or not _is_narrow(*dtypes):
            return function(*args, **kwargs)
        wide = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in args]
        out = kwargs.get("out")
        result = function(*wide, **{k: v for k, v in kwargs.items() if k != "out"})
        if out is not None:
            out[...] = result
        return result if kwargs.get("dtype") else result.astype(arrays[0].dtype)


def _is_narrow(dtype: np.dtype) -> bool:
    return dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, tuple | list):
        yield value
        return
    for part in value:
        yield from _flat(part)


def devices(value: Any) -> Iterator[ndarray]:
    """The device arrays in `value`."""
    return (part for part in _flat(value) if isinstance(part, ndarray))


def hidden(value: Any) -> Any:
    """`value` with the NumPy arrays that device arrays hide. A NumPy array itself is refused."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(map(hidden, value))
    if isinstance(value, dict):
        return {name: hidden(part) for name, part in value.items()}
    return value


def _view(value: Any, sources: list[ndarray]) -> Any:
    """A result of NumPy's as one of CuPy's, if it lies in the memory of the (only) source."""
    if isinstance(value, list):
        views = [_view(part, sources) for part in value]
        return None if any(view is None for view in views) else views
    block, begin = sources[0]._memory, np.asarray(value).ctypes.data
    if not (isinstance(value, np.ndarray) and block.size and block.contains(begin, begin)):
        return None
    result = object.__new__(ndarray)
    result._memory, result._array = block, value
    return result


def _on_card(value: Any) -> Any:
    """A result of NumPy's as one of CuPy's: copied into memory of the card, strides and all."""
    if isinstance(value, tuple | list):
        return type(value)(map(_on_card, value))
    if not isinstance(value, np.ndarray | np.generic):
        return value
    like = np.empty_like(value, subok=False)
    result = ndarray(like.shape, like.dtype, strides=like.strides if like.size else None)
    if not stream.get_current_stream().is_capturing():
        stream.get_current_stream().catch_up()  # what lay there before may still be read
    result._array[...] = value
    return result


# --- copies --------------------------------------------------------------------------------------


def upload(host: np.ndarray, device: ndarray, where: Any = None) -> None:
    """Host -> device. Memory that is not pinned is read at once; pinned memory, when it is time."""
    standin.check_device()
    stream.check_capture("H2D")
    pinned = memory.as_the_card_sees_it(host)
    source = host.copy() if pinned is None else pinned
    target, count = device._array, host.nbytes

    def work() -> None:
        standin.record.uploads.append(count)
        target[...] = source

    (stream.get_current_stream() if where is None else where).submit(work)


def download(
    device: ndarray, where: Any = None, order: str = "C", out: Any = None, blocking: bool = True
) -> np.ndarray:
    """Device -> host: there on return, or (not `blocking`) when the stream has got to it."""
    stream.check_capture("D2H")
    if out is None:
        out = np.empty(device.shape, device.dtype, "F" if order == "F" else "C")
    elif not isinstance(out, np.ndarray):
        raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
    elif out.dtype != device.dtype:
        raise TypeError(f"{device.dtype} array cannot be obtained from {out.dtype} array")
    elif out.shape != device.shape:
        raise ValueError(
            f"Shape mismatch. Expected shape: {device.shape}, actual shape: {out.shape}"
        )
    source = device._array
    pinned = memory.as_the_card_sees_it(out)
    target = out if pinned is None else pinned

    def work() -> None:
        standin.record.downloads.append(source.nbytes)
        target[...] = source

    where = stream.get_current_stream() if where is None else where
    where.submit(work)
    if blocking:
        where.synchronize()
    return out


# --- operators and methods -----------------------------------------------------------------------


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(operator, name)

    def method(*args: Any) -> Any:
        _check_operands(*args)
        return compute(name, function, *args)

    return method


def _reflected(name: str) -> Callable[..., Any]:
    return lambda self, other: _operator(name)(other, self)


def _in_place(name: str, ufunc: np.ufunc) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> ndarray:
        _check_operands(other)
        change(name, ufunc, self, other, out=self)
        return self

    return method


def _method(name: str) -> Callable[..., Any]:
    function = getattr(np.ndarray, name)

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        check_options(name, kwargs, REDUCTIONS.get(name))
        out = kwargs.pop("out", None)
        if out is None:
            return compute(name, function, self, *args, **kwargs)
        change(name, function, self, *args, out=out, **kwargs)
        return out

    return method


ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
METHODS = names(
    """
    all any argmax argmin argpartition argsort clip conj cumprod cumsum diagonal dot max mean min
    nonzero prod ravel repeat reshape round squeeze std sum swapaxes take trace transpose var
    """
)
for _name, _ufunc in ARITHMETIC.items():
    _plain = _name + "_" * (_name in ("and", "or"))
    setattr(ndarray, f"__{_name}__", _operator(_plain))
    setattr(ndarray, f"__r{_name}__", _reflected(_plain))
    setattr(ndarray, f"__i{_name}__", _in_place(_name, _ufunc))
for _name in names("eq ne lt le gt ge neg pos abs invert matmul"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
for _name in METHODS:
    setattr(ndarray, _name, _method(_name))
ndarray.__module__ = "cupy"
