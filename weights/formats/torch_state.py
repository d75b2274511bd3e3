"""From what a PyTorch pickle described to arrays: find the state dict, then look at its numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.weights.formats.torch_stand_ins import StoredTensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
"""Where training scripts put the weights among the things they save; last their moving average,
which is taken if nothing else is there."""

TRAINING = "belongs to the training run, not to the model"
NO_TENSOR = "is no tensor"
MAX_RANK = 64  # NumPy's

Buffers = dict[str | int, np.ndarray]
"""The numbers of each storage, one-dimensional; those of bfloat16 as uint16."""

Typed = dict[tuple[str | int, str], np.ndarray]


@dataclass(frozen=True)
class StateDict:
    tensors: dict[str, StoredTensor]
    left_out: dict[str, str]


def find_state_dict(saved: Any) -> StateDict:
    """The dict of tensors in what was saved: itself, or an entry named as in WRAPPERS.

    Raises ValueError if there is none.
    """
    if not isinstance(saved, dict):
        raise ValueError("it holds no dict of tensors; save model.state_dict()")
    left_out: dict[str, str] = {}
    for wrapper in WRAPPERS:
        inner = saved.get(wrapper)
        if isinstance(inner, dict) and _has_tensors(inner):
            left_out = {_shown(key): TRAINING for key in saved if key != wrapper}
            saved = inner
            break
    if not _has_tensors(saved):
        raise ValueError(
            "it holds no tensors, neither by themselves nor under " + " or ".join(WRAPPERS)
        )
    tensors = {k: v for k, v in saved.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
    left_out |= {_shown(key): NO_TENSOR for key in saved if key not in tensors}
    return StateDict(tensors, left_out)


def _has_tensors(values: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, StoredTensor) for value in values.values())


def _shown(key: Any) -> str:
    return key if isinstance(key, str) else f"an entry named by a {type(key).__name__}"


def to_arrays(tensors: Mapping[str, StoredTensor], buffers: Buffers) -> dict[str, np.ndarray]:
    """Each tensor as a view of its storage's numbers.

    Raises ValueError, naming the tensor, if it reaches out of its storage or is none NumPy has.
    """
    typed: Typed = {}
    arrays = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = _to_array(tensor, buffers, typed)
        except ValueError as error:
            raise ValueError(f"tensor {name[:80]!r}: {error}") from error
    return arrays


def _to_array(tensor: StoredTensor, buffers: Buffers, typed: Typed) -> np.ndarray:
    storage, size, stride = tensor.storage, tensor.size, tensor.stride
    if storage is None:
        raise ValueError("has no storage")
    if len(size) != len(stride) or len(size) > MAX_RANK:
        raise ValueError(f"has {len(size)} sizes and {len(stride)} strides")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in (tensor.offset, *size, *stride)):
        raise ValueError("has an offset, a size or a stride that is no number from 0")
    if tensor.dtype is None:
        numbers = _typed(storage.key, storage.dtype, buffers, typed)
        numbers = numbers[storage.start : storage.start + storage.count]
    else:
        numbers = _typed(storage.key, tensor.dtype, buffers, typed)
    count = math.prod(size)
    if count == 0:
        return np.empty(size, numbers.dtype)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(numbers):
        raise ValueError(f"reaches to number {last} of a storage of {len(numbers)}")
    if count > len(numbers):
        raise ValueError(f"makes {count} numbers of a storage of {len(numbers)}")
    # Along an axis of one number nobody steps, so any step may be announced there.
    strides = [step * numbers.itemsize * (n > 1) for n, step in zip(size, stride, strict=True)]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], size, strides)


def _typed(key: str | int, dtype: str, buffers: Buffers, typed: Typed) -> np.ndarray:
    """A storage's numbers in a type that NumPy has; done once for each storage."""
    if (key, dtype) not in typed:
        raw = buffers[key]
        if dtype == "bool" and raw.size and raw.view(np.uint8).max() > 1:
            raise ValueError("has truth values other than 0 and 1")
        if dtype == "bfloat16":
            import ml_dtypes  # lends NumPy this type

            typed[key, dtype] = raw.view(ml_dtypes.bfloat16)
        else:
            typed[key, dtype] = raw.view(dtype)
    return typed[key, dtype]
