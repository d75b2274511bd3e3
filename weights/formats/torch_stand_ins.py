"""What the names in a PyTorch pickle stand for here: descriptions, never PyTorch's own code.

A state dict is saved as storages (flat runs of numbers) and tensors (a storage, an offset, sizes
and strides). The pickle names the functions that would put them together. `GLOBALS` is the whole
list of names that are answered, each with something that can do nothing but describe.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DType:
    """torch.float32 and the like; `name` is "bfloat16" or NumPy's name."""

    name: str


@dataclass(frozen=True)
class StorageType:
    """torch.FloatStorage and the like; an untyped storage counts bytes."""

    dtype: str


@dataclass(frozen=True)
class Storage:
    """A run of `count` numbers; it starts at number `start` of the stored run `key`."""

    key: str | int
    dtype: str
    count: int
    start: int = 0


@dataclass
class StoredTensor:
    """Number [i, j, ...] is the storage's number offset + i * stride[0] + j * stride[1] + ..."""

    storage: Storage | None = None
    offset: int = 0
    size: tuple[Any, ...] = ()
    stride: tuple[Any, ...] = ()
    dtype: str | None = None  # where the storage is untyped


class Opaque:
    """Something that comes along with weights and is no part of them."""


@dataclass(frozen=True)
class Maker:
    """A class or a function of the table: `make` takes the arguments that the pickle has for it."""

    make: Callable[[tuple[Any, ...]], Any]


def _tensor(args: tuple[Any, ...]) -> StoredTensor:
    match args:
        case (Storage() as storage, int() as offset, tuple() as size, tuple() as stride, *_):
            return StoredTensor(storage, offset, size, stride)
    raise ValueError("a tensor is made of a storage, an offset, sizes and strides")


def _tensor_of_dtype(args: tuple[Any, ...]) -> StoredTensor:
    """_rebuild_tensor_v3: the storage is untyped, the type comes last."""
    tensor = _tensor(args)
    match args:
        case (Storage(dtype="uint8", start=0), _, _, _, _, _, DType(name), *_):
            tensor.dtype = name
            return tensor
    raise ValueError("_rebuild_tensor_v3 takes an untyped storage and a type that NumPy has")


def _parameter(args: tuple[Any, ...]) -> StoredTensor:
    match args:
        case ():  # the oldest files fill it in afterwards
            return StoredTensor()
        case (StoredTensor() as tensor, *_):
            return tensor
    raise ValueError("a parameter is made of a tensor")


def _dict(args: tuple[Any, ...]) -> dict[str, Any]:
    """An OrderedDict: empty, or (as Python 2 saved it) made of a list of pairs."""
    match args:
        case ():
            return {}
        case (list() as pairs,):
            made = {}
            for pair in pairs:
                match pair:
                    case (str() as name, value):
                        made[name] = value
                    case _:
                        raise ValueError("an OrderedDict is made of pairs of a name and a value")
            return made
    raise ValueError("an OrderedDict is made of nothing or of a list of pairs")


def _size(args: tuple[Any, ...]) -> tuple[Any, ...]:
    match args:
        case (tuple() as size,):
            return size
    raise ValueError("a Size is made of a tuple")


def _opaque(args: tuple[Any, ...]) -> Opaque:
    return Opaque()


STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
}

_MAKERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.nn.Parameter": _parameter,
    "torch.autograd.variable.Variable": _parameter,
    "torch.Size": _size,
}

# What training scripts put beside the weights. It is dropped, so nobody has to understand it.
_COMPANIONS = (
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.complex",
    "builtins.set",
    "__builtin__.set",
    "collections.Counter",
    "collections.defaultdict",
    "builtins.dict",
    "builtins.list",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
    "torch.device",
)


def _table() -> dict[str, Any]:
    """Dotted name -> its stand-in."""
    table: dict[str, Any] = {name: Maker(make) for name, make in _MAKERS.items()}
    table |= {name: Maker(_opaque) for name in _COMPANIONS}
    for name, dtype in STORAGES.items():
        table[f"torch.{name}Storage"] = StorageType(dtype)
        for module in ("torch", "torch.cuda"):
            table[f"{module}.{name}Tensor"] = Maker(_parameter)
    for dtype in (*STORAGES.values(), "uint16", "uint32", "uint64"):
        table[f"torch.{dtype}"] = DType(dtype)
    table["torch.storage.UntypedStorage"] = StorageType("uint8")
    return table


GLOBALS = _table()
