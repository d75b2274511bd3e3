"""Read the pickle in a PyTorch file without running anything of it.

A pickle is a program for a small stack machine: instructions push values, gather them into lists
and dicts, look names up (GLOBAL), call what was found (REDUCE) and change the outcome (BUILD). With
Python's own `pickle` the names may be any function there is. This machine knows the instructions
that PyTorch's files are made of, and `torch_stand_ins.GLOBALS` is all that it can look up. CIFAR-10
comes as pickles, too; `resnet_np/data/cifar.py` reads them with this machine and names of its own.

It also does without what makes Python's machine costly on a file made to harm: no memory is set
aside on a mere announcement, nothing nested is hashed, printed or walked, nothing recurses.
Python's `pickletools` takes the bytes apart into instructions.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from resnet_np.weights.formats.torch_stand_ins import GLOBALS, Maker, Opaque, StoredTensor
from resnet_np.weights.formats.zip_entries import fill

MAX_BYTES = 1 << 24
MAX_INSTRUCTIONS = 100_000
"""A ResNet-152 with its optimizer takes no more than this. What an instruction makes takes a
hundred bytes, so that for each hundred bytes of the file it may be one instruction more."""

# Instructions that push what stands behind them.
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # a set would hash what it is given
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Names:
    """What a pickle may look up: dotted name -> stand-in; and what to say of a name not in it."""

    table: Mapping[str, Any]
    otherwise: str


PYTORCH = Names(
    GLOBALS,
    "which is no part of a state dict and was not looked up; save model.state_dict() and nothing"
    " else",
)


class Fillable:
    """A stand-in that BUILD gives its state to. Raises ValueError for a state it does not know."""

    def fill(self, state: Any) -> None:
        raise NotImplementedError


class Stream:
    """A file up to byte `end`, which hands out no more than it holds, whatever is announced.

    most: bytes that one pickle in it may take.
    """

    def __init__(self, file: IO[bytes], end: int, most: int = MAX_BYTES) -> None:
        self.file = file
        self.end = end
        self.most = most

    def tell(self) -> int:
        return self.file.tell()

    def left(self) -> int:
        return max(self.end - self.file.tell(), 0)

    def read(self, n: int) -> bytes:
        return self.file.read(min(n, self.left(), self.most))

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left(), 1000))
        if b"\\" in line:  # names have none, and genops would warn of unknown ones
            raise ValueError("a text with escapes does not occur in PyTorch's files")
        return line

    def skip(self, n: int) -> None:
        if not 0 <= n <= self.left():
            raise ValueError(f"byte {self.tell()}: {n} bytes announced, {self.left()} are left")
        self.file.seek(n, 1)

    def numbers(self, dtype: str, count: int) -> np.ndarray:
        """The next `count` little-endian numbers [count]."""
        n = count * np.dtype(dtype).itemsize
        if not 0 <= n <= self.left():
            raise ValueError(f"byte {self.tell()}: {n} bytes announced, {self.left()} are left")
        array = np.empty(n, np.uint8)
        if not fill(array, self.file):
            raise ValueError(f"byte {self.tell()}: the file is cut short")
        return array.view(np.dtype(dtype).newbyteorder("<"))


def no_persistent_ids(saved_id: Any) -> Any:
    raise ValueError("refers to something outside of the pickle")


def load(
    stream: Stream,
    persistent_load: Callable[[Any], Any] = no_persistent_ids,
    held: int = 0,
    names: Names = PYTORCH,
) -> Any:
    """What the next pickle of a stream describes, in dicts, lists, numbers and stand-ins.

    persistent_load: what stands for the things kept outside of the pickle, from their id.
    held: bytes of the file that the pickle is about.
    names: all that it may look up.
    Raises ValueError, saying at which byte, for every instruction and name that is not known, and
    for a pickle that is damaged or too long.
    """
    machine = _Machine(persistent_load, names)
    start = here = stream.tell()
    try:
        # A stream has the three methods that genops needs of a file.
        instructions = pickletools.genops(stream)  # type: ignore[arg-type]
        for n, (instruction, argument, position) in enumerate(instructions):
            here = start if position is None else position
            if n >= MAX_INSTRUCTIONS + held // 100 or here - start > stream.most:
                raise ValueError("the pickle is too long for a file of weights")
            machine.step(instruction.name, argument)
        return machine.pop()
    except ValueError as error:
        raise ValueError(f"pickle, byte {here}: {error}") from error


class _Machine:
    """Stack, marks (heights of the stack, from which on values are gathered) and memo."""

    def __init__(self, persistent_load: Callable[[Any], Any], names: Names) -> None:
        self.persistent_load = persistent_load
        self.names = names
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("takes a value from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("goes back to a mark that was not set")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """One instruction, by its name in `pickletools`."""
        push = self.stack.append
        if name in LITERALS:
            push(argument)
        elif name in NEW:
            push(NEW[name]())
        elif name in TUPLES:
            push(tuple([self.pop() for _ in range(TUPLES[name])][::-1]))
        else:
            match name:
                case "PROTO" | "FRAME" | "STOP":
                    pass
                case "MARK":
                    self.marks.append(len(self.stack))
                case "TUPLE":
                    push(tuple(self.pop_to_mark()))
                case "POP":
                    self.pop()
                case "POP_MARK":
                    self.pop_to_mark()
                case "BINPUT" | "LONG_BINPUT":
                    self.memo[argument] = self.top()
                case "MEMOIZE":
                    self.memo[len(self.memo)] = self.top()
                case "BINGET" | "LONG_BINGET":
                    if argument not in self.memo:
                        raise ValueError("fetches a value that was not kept")
                    push(self.memo[argument])
                case "APPEND":
                    self.extend([self.pop()])
                case "APPENDS" | "ADDITEMS":
                    self.extend(self.pop_to_mark())
                case "SETITEM":
                    self.set_items([self.pop(), self.pop()][::-1])
                case "SETITEMS":
                    self.set_items(self.pop_to_mark())
                case "GLOBAL":
                    push(_look_up(self.names, *argument.split(" ", 1)))
                case "STACK_GLOBAL":
                    attribute, module = self.pop(), self.pop()
                    push(_look_up(self.names, module, attribute))
                case "REDUCE" | "NEWOBJ":
                    arguments, maker = self.pop(), self.pop()
                    push(_make(maker, arguments))
                case "BUILD":
                    state = self.pop()
                    _fill(self.top(), state)
                case "BINPERSID":
                    push(self.persistent_load(self.pop()))
                case _:
                    raise ValueError(f"the instruction {name} does not occur in PyTorch's files")

    def extend(self, values: list[Any]) -> None:
        match self.top():
            case list() as target:
                target.extend(values)
            case Opaque():
                pass
            case _:
                raise ValueError("appends to something that is no list")

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if len(values) % 2 or not isinstance(target, dict | Opaque):
            raise ValueError("sets items of something that is no dict")
        if isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                # Other keys occur beside weights only. To hash them may take forever.
                target[key if isinstance(key, str | int) else Opaque()] = value


def _look_up(names: Names, module: Any, attribute: Any) -> Any:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise ValueError("looks up what is no name")
    name = f"{module}.{attribute}"
    if name not in names.table:
        raise ValueError(f"asks for {name[:80]!r}, {names.otherwise}")
    return names.table[name]


def _make(maker: Any, arguments: Any) -> Any:
    if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
        raise ValueError("calls what cannot be called")
    return maker.make(arguments)


def _fill(target: Any, state: Any) -> None:
    """BUILD. Only the oldest files put anything of use there: a tensor, or what it is made of."""
    match target, state:
        case Fillable(), _:
            target.fill(state)
        case StoredTensor(), (StoredTensor() as tensor, _, _, _, _):
            target.__dict__.update(tensor.__dict__)
        case StoredTensor(storage=None), (_, _, _, _):
            target.__dict__.update(GLOBALS["torch._utils._rebuild_tensor"].make(state).__dict__)
        case ((StoredTensor() | dict() | Opaque()), _):
            pass
        case _:
            raise ValueError("fills something that is neither a dict nor a tensor")
