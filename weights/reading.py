"""Read a weight file of any known format, and check it before anyone uses it."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.weights import cache, names, registry
from resnet_np.weights.file import Found, WeightFile
from resnet_np.weights.formats import huggingface, keras, tensors
from resnet_np.weights.formats.npz import refuse_run

# How a file begins says what it is, its name does not: (offset, bytes there, reader).
READERS: tuple[tuple[int, bytes, Callable[[str], Found]], ...] = (
    (0, b"PK\x03\x04", tensors.from_zip),
    (0, b"\x89HDF\r\n\x1a\n", keras.from_hdf5),
    (8, b"{", tensors.from_safetensors),
    # PyTorch's before the zip: bare pickles of protocol 2 to 5, and before these a tar.
    *((0, bytes([0x80, protocol]), tensors.from_torch) for protocol in range(2, 6)),
    (257, b"ustar", tensors.from_torch),
)


def read(path: str | os.PathLike[str]) -> WeightFile:
    """Read ResNet weights: torchvision's names, our layout, whatever the format.

    Known are `.npz`, `.safetensors` and PyTorch's files with torchvision's names, Keras' legacy
    `.h5`, `.weights.h5` and `.keras`, and our own checkpoints. Tensors keep the precision of the
    file; 16-bit ones are widened to float32.

    Raises UserError, naming the file, if it is none of these or anything in it is wrong: cut
    short, unknown or doubled names, layers without one of their tensors, wrong ranks, values that
    are not finite. All that is wrong is listed together. Whether a whole network is there is seen
    by those who need one: `load_weights` and `write`.
    """
    return check(os.fspath(path), find(path))


def find(path: str | os.PathLike[str]) -> Found:
    """What is in a file, whether or not it is a ResNet's. Raises UserError if it is unreadable."""
    path = os.fspath(path)
    return _reader(path)(path)


def check(path: str, found: Found) -> WeightFile:
    """What was found, once it is known to be a ResNet's. Raises UserError as `read` does."""
    for name in list(found.arrays):  # one by one: the narrow ones are not all kept meanwhile
        found.arrays[name] = _native(found.arrays.pop(name))
    if found.problems:
        raise UserError(f"{path}: {some(found.problems, '; ')}", found.problems)
    if problems := [*_wrong_tensors(found.arrays), *_wrong_classes(found)]:
        raise UserError(f"{path}: {'; '.join(problems)}", problems)
    published = registry.recognise(path)
    if published is not None:  # what its publisher says of it is more than the file itself tells
        found.variant = published.variant or found.variant
        found.bn_eps = published.bn_eps or found.bn_eps
        found.contract = published.contract or found.contract
        found.classes = cache.cached_class_names(published) or found.classes
    return WeightFile(
        path=path,
        format=found.format,
        source=found.source,
        arrays=found.arrays,
        left_out=found.left_out,
        variant=found.variant,
        bn_eps=found.bn_eps,
        contract=found.contract,
        classes=found.classes,
        record=found.record,
        depth=names.find_depth(found.arrays),
        conv_bias=found.has_conv_bias(),
        folded_statistics=found.has_folded_statistics(),
        published=None if published is None else published.name,
    )


def _reader(path: str) -> Callable[[str], Found]:
    if os.path.isdir(path):
        refuse_run(path)
        return huggingface.from_folder
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe gives its bytes only once
        raise UserError(f"{path}: a pipe or a device; save what comes out of it as a file first")
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    for offset, signature, reader in READERS:
        if head[offset : offset + len(signature)] == signature:
            return reader
    raise UserError(
        f"{path}: {'not a known weight format' if head else 'an empty file'}; known are .npz,"
        " .safetensors and .pth, Keras' .h5, .weights.h5 and .keras, Hugging Face's folders, and"
        " own checkpoints"
    )


def _native(array: np.ndarray) -> np.ndarray:
    """16-bit numbers widened, others in this machine's order of bytes (an `.npz` has its own)."""
    if array.dtype.name in ("float16", "bfloat16"):
        return array.astype(np.float32)
    if array.dtype.name in ("float32", "float64"):
        return array.astype(array.dtype.name, copy=False)
    return array


def _wrong_tensors(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """One line for each kind of wrong, naming the tensors it befell."""
    wrong: dict[str, list[str]] = defaultdict(list)
    modules: dict[str, set[str]] = defaultdict(set)
    for name, array in arrays.items():
        module, _, leaf = name.rpartition(".")
        modules[module].add(leaf)
        if fault := _fault(names.kind(module), leaf, array):
            # A name that would break the line, or hide in it, is shown with its escapes.
            wrong[fault].append(name if name.strip() and name.isprintable() else repr(name))
    for module, leaves in modules.items():
        kind = names.kind(module)
        missing = set(names.RANKS[kind]) - leaves - {"bias"} if kind else set()
        wrong["missing"] += [f"{module}.{leaf}" for leaf in sorted(missing)]
    for fault, fault_names in wrong.items():
        if fault_names:
            yield f"{fault}: {some(fault_names)}"
    if not wrong["missing"] and len(wrong) == 1:
        wrong_lengths = list(_disagreeing(arrays))
        if wrong_lengths:
            yield some(wrong_lengths, "; ")
    if "conv1.weight" not in arrays:
        yield "not a ResNet: it has no conv1.weight"


def _wrong_classes(found: Found) -> Iterator[str]:
    """Class names and logits of other numbers."""
    head = names.head_layers(found.arrays)
    if not head or found.classes is None:
        return
    last = found.arrays[f"{head[-1]}.weight"]  # [C, K]
    if last.ndim == 2 and len(found.classes) != last.shape[1]:
        yield f"{len(found.classes)} class names for {last.shape[1]} classes"


def _fault(kind: str | None, leaf: str, array: np.ndarray) -> str | None:
    """What is wrong with one tensor, or None."""
    if kind is None or leaf not in names.RANKS[kind]:
        return "unknown names"
    if array.dtype not in (np.float32, np.float64):
        return f"numbers of type {array.dtype} where weights are floating"
    if array.ndim != names.RANKS[kind][leaf]:
        return f"rank {array.ndim} instead of {names.RANKS[kind][leaf]}"
    if not array.size:
        return "empty"
    if not np.isfinite(array).all():
        return "values that are not finite"
    if leaf == "running_var" and array.min() < 0:
        return "variances below zero"
    return None


def _disagreeing(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """A convolution's output channels, its bias and its batch norm have one length, and the next
    convolution of the block takes as many."""
    for name, w in arrays.items():
        module, _, leaf = name.rpartition(".")
        kind = names.kind(module)
        if leaf != "weight" or kind == "bn":
            continue
        partners = [f"{module}.bias"]
        if kind == "conv":
            partners += [f"{names.norm_after(module)}.{part}" for part in names.RANKS["bn"]]
        for partner in partners:
            if partner in arrays and len(arrays[partner]) != w.shape[-1]:
                yield f"{name} makes {w.shape[-1]} channels, {partner} has {len(arrays[partner])}"
        next_one = names.conv_after(module)
        if next_one and next_one in arrays and arrays[next_one].shape[2] != w.shape[-1]:
            yield (
                f"{name} makes {w.shape[-1]} channels, {next_one} takes {arrays[next_one].shape[2]}"
            )
