"""`.safetensors`: a header in JSON, then the numbers of one tensor behind those of another.

    8 bytes   length n of the header, little-endian
    n bytes   {"name": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}, ...}
              and, under "__metadata__", texts by name
    the rest  numbers, which the offsets count from here

The package `safetensors` checks all that and reads the numbers.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights.formats.json_text import load_json

MAX_HEADER = 1 << 21
"""Bytes. The header of a ResNet-152 takes an eighth of this; parsed, it takes many times as much as
in the file."""


def read_safetensors(path: str) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """The tensors of a file, its texts, and what is wrong with single tensors.

    Raises UserError if it is no such file, or one cut short.
    """
    import ml_dtypes  # noqa: F401  (lends NumPy the bfloat16 that such files may hold)
    import safetensors

    problems = [f"{name!r} is there {n} times" for name, n in _repeated(path)]
    arrays: dict[str, np.ndarray] = {}
    with _readable(path), safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118  (it is no mapping)
            try:
                arrays[name] = file.get_tensor(name)
            except (TypeError, AttributeError, KeyError) as error:
                problems.append(f"{name!r} has a type that NumPy lacks ({error})")
    return arrays, metadata, problems


def to_safetensors(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The content of a file. More than one text would make its order a matter of chance."""
    from safetensors.numpy import save

    return save(dict(arrays), metadata)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Whatever the package says of a file, as a UserError."""
    import safetensors

    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a .safetensors file, or one cut short ({error})") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how a program in Rust gives up
            raise
        raise UserError(f"{path}: not a .safetensors file ({error})") from error


def _repeated(path: str) -> list[tuple[str, int]]:
    """Names that stand more than once in the header, of which the package keeps one."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise UserError(
                f"{path}: its header takes {length} bytes, where one of a network's weights takes"
                f" no more than {MAX_HEADER}"
            )
        header = file.read(min(length, os.path.getsize(path)))
    try:
        pairs = load_json(header, os.path.getsize(path), pairs=list)
    except ValueError as error:
        raise UserError(f"{path}: not a .safetensors file, or one cut short ({error})") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise UserError(f"{path}: not a .safetensors file: its header is no table")
    return [(name, n) for name, n in Counter(name for name, _ in pairs).items() if n > 1]
