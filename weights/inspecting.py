"""What `python -m resnet_np.weights inspect` shows: all that can be said of a weight file.

A file that `read` refuses is shown as far as it can be, and then refused.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError, counted, one_line, some
from resnet_np.weights import names, registry
from resnet_np.weights.contract import Contract
from resnet_np.weights.file import Found, WeightFile
from resnet_np.weights.locating import locate
from resnet_np.weights.reading import check, find
from resnet_np.weights.structure import check_whole, pooling_of

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = {
    "npz": "NumPy .npz",
    "safetensors": ".safetensors",
    "pytorch-zip": "PyTorch, a zip",
    "pytorch-legacy": "PyTorch, a bare stream (before 1.6)",
    "pytorch-tar": "PyTorch, a tar (0.1)",
    "keras-h5": "Keras, legacy HDF5",
    "keras-weights-h5": "Keras, .weights.h5",
    "keras-zip": "Keras, .keras",
    "huggingface": "Hugging Face, a folder",
    "checkpoint": "a checkpoint of this project",
}
SOURCES = {
    "torchvision": "torchvision's names, which are timm's, too",
    "keras": "Keras' names",
    "huggingface": "Hugging Face's names",
    "resnet_np": "this project's names, which are torchvision's",
}
TELL_VARIANT = (
    "v1.5 or v1, which the tensors cannot tell: say --variant v1.5 (torchvision's, timm's, Hugging"
    " Face's) or --variant v1 (Keras')"
)
STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance")
LONGEST_NAME = 100  # of one that is shown; a file may hold longer ones
MOST_VALUES = 4  # of constant tensors, that are told apart


@dataclass(frozen=True)
class Statistic:
    """One tensor in a line. The four figures are of its finite numbers; None if it has none.

    bad: how many numbers are NaN or infinite. digest: the same for the same numbers.
    """

    shape: tuple[int, ...]
    dtype: str
    size: int
    nbytes: int
    figures: tuple[float, float, float, float] | None
    bad: int
    digest: bytes

    @property
    def constant(self) -> float | None:
        """The one value that all of its numbers have, if there are several."""
        if self.figures is None or self.bad or self.size < 2:
            return None
        low, _, high, _ = self.figures
        return low if low == high else None


def measure(array: np.ndarray) -> Statistic:
    """Look at every number of a tensor."""
    figures, bad = None, 0
    digest = hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data).digest()
    if array.dtype.kind != "c":
        numbers = array if array.dtype.kind == "f" else array.astype(np.float64)
        finite = np.isfinite(numbers)
        bad = int(numbers.size - np.count_nonzero(finite))
        if bad:
            numbers = numbers[finite]
        if numbers.size:
            with np.errstate(over="ignore", invalid="ignore"):
                mean, std = numbers.mean(dtype=np.float64), numbers.std(dtype=np.float64)
            figures = (float(numbers.min()), float(mean), float(numbers.max()), float(std))
    return Statistic(
        array.shape, array.dtype.name, array.size, array.nbytes, figures, bad, digest
    )  # fmt: skip


def inspect(named: str, console: "Console") -> None:
    """Print what a file is and what is in it. Raises UserError if `read` does.

    named: a file, a folder, or the name of published weights.
    """
    path = locate(named)
    found = find(path)
    tensors = {name: measure(array) for name, array in found.arrays.items()}
    refusal = file = None
    try:
        checked = check(path, found)
        check_whole(checked, head=False)
        file = checked
    except UserError as error:
        refusal = error
    print_line(console, path)
    known = found.says_contract or bool(file and file.published)
    facts = [*_what(path, found), *(_network(file, known) if file else ())]
    print_facts(console, [*facts, *_totals(tensors)] if tensors else facts)
    if tensors:
        _print_tensors(console, tensors, _other_names(found)[1])
    _print_list(console, "left out", by_reason(found.left_out))
    if tensors:
        _print_list(console, "odd", [*oddities(found, tensors), *(_odd_head(file) if file else ())])
    if refusal is not None:
        raise refusal


# --- what it is ----------------------------------------------------------------------------------


def _what(path: str, found: Found) -> Iterator[tuple[str, str]]:
    """Facts that any file has."""
    yield "format", FORMATS[found.format]
    yield "size", f"{size_of(path):,} bytes"
    if "conv1.weight" in found.arrays:
        yield "names", SOURCES[found.source]
    prefix, others = _other_names(found)
    if prefix:
        yield "", f"each with {shown(prefix)!r} in front"
    if others:
        yield "", "shown below those that they get here"


def size_of(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = Path(path).iterdir() if os.path.isdir(path) else [Path(path)]
    return sum(file.stat().st_size for file in files)


def kind_of(file: WeightFile) -> str:
    """A file in a few words."""
    depth = "no known depth" if file.depth is None else f"ResNet-{file.depth}"
    variant = f" {file.variant}" if file.variant else ""
    return f"{FORMATS[file.format]}, {depth}{variant}"


def _network(file: WeightFile, known: bool) -> Iterator[tuple[str, str]]:
    """Facts that a ResNet has. known: whether somebody said what input it expects."""
    if file.published is not None:
        entry = registry.find(file.published)
        yield "published", f"{entry.name}, {entry.title}"
        yield "licence", entry.licence or "none named"
    depth = "of no known depth" if file.depth is None else f"ResNet-{file.depth}"
    width = file.arrays["conv1.weight"].shape[3] / 64  # the stem of a full network has 64
    yield "network", depth + (f", {width:g} of the usual width" if width != 1 else "")
    yield "variant", _variant_words(file)
    eps = "cannot be told" if file.bn_eps is None else f"{file.bn_eps:g}"
    yield "batch norm", f"epsilon {eps}"
    yield "biases", f"convolutions have {'them' if file.conv_bias else 'none'}"
    yield "classes", _class_words(file)
    colours, numbers, size = contract_lines(file.contract)
    yield "input", colours
    yield "", numbers
    yield "", size
    if not known:
        yield "", "as weights with these names mostly expect it; the file does not say"
    if file.record is not None and "epoch" in file.record:
        side = file.record.get("image_size")
        epochs = counted(file.record["epoch"], "epoch")
        yield "trained", f"{epochs} on images of {side} x {side} pixels"


def _variant_words(file: WeightFile) -> str:
    if file.depth in (18, 34):
        return "v1 and v1.5 are the same with so few layers"
    if file.variant is None:
        return TELL_VARIANT
    where = "first 1x1" if file.variant == "v1" else "3x3"
    return f"{file.variant}: blocks that halve the image do so in their {where} convolution"


def _class_words(file: WeightFile) -> str:
    head = names.head_layers(file.arrays)
    if not head:
        return "no head: features only"
    count = file.arrays[f"{head[-1]}.weight"].shape[1]  # [C, K]
    if file.classes is None:
        return f"{count}, their names are not in the file"
    return f"{count}: {one_line(some(file.classes))}"


def contract_lines(contract: Contract) -> list[str]:
    """An input contract in words and numbers."""
    scale = "0..1 (/255)" if contract.scale == 1 / 255 else f"0..255 x {contract.scale:g}"
    if contract.scale == 1:
        scale = "0..255"
    square = f"{contract.crop} x {contract.crop}"
    antialias = "with" if contract.antialias else "without"
    how = f"{contract.interpolation} {antialias} antialias"
    if contract.interpolation == "nearest" and contract.antialias:  # which has none to speak of
        how = "nearest pixel"
    return [
        f"colours {contract.color}, numbers {scale}",
        f"minus mean {_triple(contract.mean)}, divided by std {_triple(contract.std)}",
        f"the whole image to {square}, {how}"
        if contract.fit == "stretch"
        else f"shorter side to {contract.resize}, {how}; then {square} from the centre",
    ]


def _triple(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _totals(tensors: Mapping[str, Statistic]) -> Iterator[tuple[str, str]]:
    """Counted as Keras does: running statistics are parameters that no gradient trains."""
    total = sum(t.size for t in tensors.values())
    fixed = sum(t.size for name, t in tensors.items() if name.endswith(STATISTICS))
    held = sum(t.nbytes for t in tensors.values())
    yield "parameters", f"{total:,}: {total - fixed:,} trainable, {fixed:,} running statistics"
    yield "tensors", f"{len(tensors)}, {held:,} bytes of numbers"


# --- what is odd ---------------------------------------------------------------------------------


def oddities(found: Found, tensors: Mapping[str, Statistic]) -> Iterator[str]:
    """One line for each thing that a sound, trained network does not have."""
    for name, tensor in tensors.items():
        if tensor.bad:
            yield f"{shown(name)}: {tensor.bad} of {tensor.size} numbers are NaN or infinite"
    dtypes = defaultdict(list)
    for name, tensor in tensors.items():
        dtypes[tensor.dtype].append(shown(name))
    dtypes.pop("float32", None)
    for dtype, members in dtypes.items():
        yield f"numbers of type {dtype} in {some(members)}"
    folded = found.has_folded_statistics()
    if folded:
        yield (
            "every running mean is 0 and every running variance 1: the statistics were multiplied"
            " into gamma and beta; right with fixed statistics only (--recalibrate)"
        )
    yield from _constants(tensors, folded)
    yield from _tiny_variances(found, tensors)
    yield from _duplicates(tensors)
    kinds = {names.kind(name.rpartition(".")[0]) for name in tensors}
    if not kinds & {"fc", None}:  # None: not known here, and so perhaps a head
        yield "it has no head"


def _odd_head(file: WeightFile) -> Iterator[str]:
    """A head that does not fit: `finetune` gives the network a new one, `predict` needs this."""
    if pooling_of(file) == "avg":
        try:
            check_whole(file)
        except UserError as error:
            yield str(error).removeprefix(f"{file.path}: ")


def _constants(tensors: Mapping[str, Statistic], folded: bool) -> Iterator[str]:
    groups = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.constant is not None and not (folded and name.endswith(STATISTICS)):
            groups[tensor.constant].append(shown(name))
    if len(groups) > MOST_VALUES:
        yield f"one value each in {some([name for members in groups.values() for name in members])}"
        return
    for value, members in groups.items():
        yield f"nothing but {value:g} in {some(members)}"


def _tiny_variances(found: Found, tensors: Mapping[str, Statistic]) -> Iterator[str]:
    """Channels that hardly ever changed: batch norm divides by little more than its epsilon."""
    eps = found.bn_eps or 1e-5
    tiny = {
        name: int(np.count_nonzero(array < eps))
        for name, array in found.arrays.items()
        if name.endswith("running_var") and tensors[name].figures is not None
    }
    befallen = [f"{count} in {shown(name)}" for name, count in tiny.items() if count]
    if befallen:
        yield f"running variances below epsilon, {eps:g}: {some(befallen)}"


def _duplicates(tensors: Mapping[str, Statistic]) -> Iterator[str]:
    groups = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.size > 1 and tensor.constant is None:
            groups[tensor.shape, tensor.dtype, tensor.digest].append(shown(name))
    for members in groups.values():
        if len(members) > 1:
            yield f"the same numbers stand in {some(members)}"


# --- how it is shown -----------------------------------------------------------------------------


def shown(name: str) -> str:
    """A name out of a stranger's file."""
    return one_line(name, LONGEST_NAME)


def print_line(console: "Console", line: str) -> None:
    """A line as it is: not broken, and nothing in it taken for markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_facts(console: "Console", facts: Iterable[tuple[str, str]]) -> None:
    """Two columns: what, and what about it."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        grid.add_row(Text(name, style="cyan"), Text(one_line(value), overflow="fold"))
    console.print(grid)


def _print_tensors(
    console: "Console", tensors: Mapping[str, Statistic], other_names: Mapping[str, str]
) -> None:
    """One row for each tensor; what all have in common is said once."""
    from rich.table import Table
    from rich.text import Text

    dtypes = {tensor.dtype for tensor in tensors.values()}
    mixed = len(dtypes) > 1
    table = Table("tensor", "shape", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[0].overflow = "fold"
    if mixed:
        table.add_column("dtype")
    for column in ("min", "mean", "max", "std"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, tensor in tensors.items():
        label = Text(shown(name))
        if name in other_names:
            label.append("\n  " + shown(other_names[name]), style="dim")
        shape = "x".join(map(str, tensor.shape)) or "a number"
        cells = [shape, *([tensor.dtype] if mixed else [])]
        table.add_row(label, *cells, *(f"{x:.2g}" for x in tensor.figures or ()))
    common = "" if mixed else f", all {' '.join(dtypes)}"
    console.print(f"\nconvolutions are [R, S, C, K], linear layers [C, K]{common}", highlight=False)
    console.print(table)


def _other_names(found: Found) -> tuple[str, dict[str, str]]:
    """(what stands in front of all names in the file, or "" and the names there by ours)."""
    origins = {name: o for name, o in found.origins.items() if o != name}
    prefixes = {origins.get(name, name).removesuffix(name) for name in found.arrays}
    if len(prefixes) == 1 and all(origins.get(n, n).endswith(n) for n in found.arrays):
        return prefixes.pop(), {}
    return "", origins


def by_reason(left_out: Mapping[str, str]) -> list[str]:
    """One line for each reason, naming the first few that it befell."""
    groups = defaultdict(list)
    for name, reason in left_out.items():
        groups[reason].append(shown(name))
    return [f"{some(members)}: {reason}" for reason, members in groups.items()]


def _print_list(console: "Console", what: str, lines: list[str]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(f"\n{what}:{'' if lines else ' nothing'}", highlight=False)
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
