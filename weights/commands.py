"""What the commands of `python -m resnet_np.weights` do, but for `inspect` (inspecting.py)."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from resnet_np.errors import UserError
from resnet_np.weights import registry
from resnet_np.weights.cache import cache_folder, place
from resnet_np.weights.file import WeightFile
from resnet_np.weights.inspecting import by_reason, kind_of, print_facts, print_line, size_of
from resnet_np.weights.locating import locate
from resnet_np.weights.reading import read
from resnet_np.weights.writing import write

if TYPE_CHECKING:
    from rich.console import Console


# --- convert -------------------------------------------------------------------------------------


def convert(
    source: str, target: str, variant: str | None, fold: bool, force: bool, console: "Console"
) -> None:
    """Write the weights in `source` to `target`, in the format that its ending names.

    variant: of weights that cannot tell their own. fold: batch norms into convolutions, for ONNX.
    force: replace what is at `target`. Raises UserError.
    """
    if os.path.lexists(target) and not force:
        raise UserError(f"{target}: is there already; name another file, or say --force")
    original = read(locate(source))
    file = with_variant(original, variant)
    notes = write(target, file, fold=fold)
    size = size_of(original.path)
    print_line(console, f"read {original.path}: {kind_of(original)}, {size:,} bytes")
    print_line(console, f"written {target}: {len(file.arrays)} tensors, {size_of(target):,} bytes")
    for line in by_reason(file.left_out):
        print_line(console, f"left out: {line}")
    for note in notes:
        print_line(console, f"note: {note}")


def with_variant(file: WeightFile, variant: str | None) -> WeightFile:
    """The file with what --variant says. Raises UserError where it says otherwise itself."""
    if variant in (None, file.variant):
        return file
    if file.variant is not None:
        raise UserError(f"{file.path}: is for {file.variant}, not for the {variant} of --variant")
    if variant == "v1" and file.depth in (18, 34):
        raise UserError(
            f"--variant v1: begins with ResNet-50; {file.path} is a ResNet-{file.depth}"
        )
    return replace(file, variant=variant)


# --- verify --------------------------------------------------------------------------------------


def verify(path: str, name: str | None, console: "Console") -> None:
    """Print a file's length and hashes, and which published file it is.

    path: a file, or the name of published weights in the cache, which is then the name, too.
    Raises UserError if it is not the one of the name.
    """
    if not os.path.exists(path) and path in registry.names():
        name = name or path
        path = os.fspath(place(registry.find(path)))
    if os.path.isdir(path):
        raise UserError(f"{path}: a folder; name the file in it that holds the weights")
    due = None if name is None else registry.find(name)
    hashes = registry.hash_file(path)
    entries = [registry.find(known) for known in registry.names()]
    found = [f"{e.name}: {e.title}" for e in entries if e.wrong(hashes) is None]
    print_facts(
        console,
        [
            ("size", f"{hashes.bytes:,} bytes"),
            ("sha256", hashes.sha256),
            ("md5", hashes.md5),
            ("is", "; ".join(found) or "none of the published files that are known here"),
        ],
    )
    if due is not None and (wrong := due.wrong(hashes)):
        raise UserError(f"{path}: is not known to be {due.name}: {wrong}")


# --- list ----------------------------------------------------------------------------------------


def list_published(console: "Console") -> None:
    """Print the table of published weights, and where they are kept on this machine."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("name", overflow="fold")
    for column in ("depth", "variant"):
        table.add_column(column)
    for column in ("top-1", "top-5", "MB"):
        table.add_column(column, justify="right")
    table.add_column("licence", overflow="fold")
    table.add_column("here")
    for entry in map(registry.find, registry.names()):
        table.add_row(
            entry.name,
            str(entry.depth or ""),
            entry.variant or "",
            "" if entry.top1 is None else f"{entry.top1:g}",
            "" if entry.top5 is None else f"{entry.top5:g}",
            f"{entry.least_and_most[0] / 1e6:.0f}",
            entry.licence or "",
            "yes" if place(entry).exists() else "",
        )
    console.print(table)
    print_line(console, "\ntop-1, top-5: per cent of ImageNet's validation images, as published")
    print_line(console, f"here: whether it is in {cache_folder()}")
