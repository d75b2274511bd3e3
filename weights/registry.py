"""The published weight files that are known by name: where each is, and what it expects.

The table itself is registry.toml, which says of every figure where it was read. What nobody
published is absent there and None here; nothing is guessed.
"""

import difflib
import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from resnet_np.errors import UserError
from resnet_np.weights.contract import HUGGINGFACE, KERAS_CAFFE, TORCHVISION, Contract

CONTRACTS = {"torchvision": TORCHVISION, "huggingface": HUGGINGFACE, "keras": KERAS_CAFFE}
LARGEST_FILE = 1 << 30
"""No published ResNet is larger: the limit where the table gives no length."""
PIECE = 1 << 20
SHOWN = 8  # digits of a hash in a message


@dataclass(frozen=True)
class Hashes:
    """The length of a file and its hashes in lower-case hexadecimal digits."""

    bytes: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class Published:
    """One published file; None wherever its publisher says nothing.

    kind: "weights", or "classes" for a list of class names.
    sources: field -> the address where its value was read.
    bytes, between: its exact length, or the least and the most that it can be.
    sha256, md5: hexadecimal digits; of the sha256 as many of the first ones as were published.
    top1, top5: per cent of right answers on ImageNet's validation images, as published.
    variant, bn_eps, contract: as in WeightFile.
    classes: the name of the entry that lists the class names.
    """

    name: str
    kind: str
    title: str
    address: str
    sources: Mapping[str, str]
    bytes: int | None = None
    between: tuple[int, int] | None = None
    sha256: str | None = None
    md5: str | None = None
    licence: str | None = None
    top1: float | None = None
    top5: float | None = None
    depth: int | None = None
    variant: str | None = None
    bn_eps: float | None = None
    contract: Contract | None = None
    classes: str | None = None

    @property
    def file_name(self) -> str:
        """Its name in the cache folder; the one in the address may stand for several files."""
        return self.name.replace("/", "--") + PurePosixPath(self.address).suffix

    @property
    def has_hash(self) -> bool:
        """Whether anyone has published what to compare a file with."""
        return self.sha256 is not None or self.md5 is not None

    @property
    def least_and_most(self) -> tuple[int, int]:
        """The least and the most bytes that the file can have."""
        if self.bytes is not None:
            return self.bytes, self.bytes
        return self.between or (1, LARGEST_FILE)

    def wrong_size(self, size: int) -> str | None:
        """What is wrong with a file of so many bytes, or None."""
        least, most = self.least_and_most
        if least <= size <= most:
            return None
        due = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        return f"{size:,} bytes where {due} are due"

    def wrong(self, hashes: Hashes) -> str | None:
        """Why a file with these hashes is not this one, or None if all that is known agrees."""
        if fault := self.wrong_size(hashes.bytes):
            return fault
        for kind, due, found in (
            ("sha256", self.sha256, hashes.sha256),
            ("md5", self.md5, hashes.md5),
        ):
            if due is not None and not found.startswith(due):
                return f"a {kind} of {found[:SHOWN]}... where {due[:SHOWN]}... is due"
        return None if self.has_hash else "nobody has published its hash"


def names() -> list[str]:
    """The names of all published weights, in the order of the table."""
    return [entry.name for entry in _table().values() if entry.kind == "weights"]


def find(name: str) -> Published:
    """The entry of a name. Raises UserError, with the most similar one, if there is none."""
    try:
        return _table()[name]
    except KeyError:
        raise UserError(f"{name!r} is the name of no published file; {_advice(name)}") from None


def _advice(name: str) -> str:
    """The name that was perhaps meant, and where all of them are."""
    near = difflib.get_close_matches(name, names(), n=1)
    perhaps = f"{near[0]!r} is one; " if near else ""
    return f"{perhaps}`python -m resnet_np.weights list` shows them"


def recognise(path: str | os.PathLike[str]) -> Published | None:
    """The published weights that a file is, byte for byte, or None. A folder is none.

    The file is read for this only if its length is that of an entry.
    """
    if not os.path.isfile(path):
        return None
    size = os.path.getsize(path)
    candidates = [
        entry for entry in map(find, names()) if entry.has_hash and not entry.wrong_size(size)
    ]
    if not candidates:
        return None
    hashes = hash_file(path)
    return next((entry for entry in candidates if entry.wrong(hashes) is None), None)


def hash_file(path: str | os.PathLike[str]) -> Hashes:
    """Both hashes of a file in one pass. Raises UserError if it cannot be read."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                sha256.update(piece)
                md5.update(piece)
                size += len(piece)
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error
    return Hashes(size, sha256.hexdigest(), md5.hexdigest())


@cache
def _table() -> Mapping[str, Published]:
    text = resources.files("resnet_np.weights").joinpath("registry.toml").read_text("utf-8")
    return parse(text)


def parse(text: str) -> dict[str, Published]:
    """The entries of a text like registry.toml. Raises ValueError, naming the entry, if one is bad.

    What is checked: that all fields are known, that the contract is one, that each source has an
    address, and that every figure has a source.
    """
    table = tomllib.loads(text)
    return {
        name: _entry(name, kind, record, table["source"])
        for kind in ("weights", "classes")
        for name, record in table[kind].items()
    }


def _entry(
    name: str, kind: str, record: Mapping[str, Any], addresses: Mapping[str, str]
) -> Published:
    values = dict(record)
    try:
        values["sources"] = {
            field: addresses[source] for source, read in record["sources"].items() for field in read
        }
        if "contract" in values:
            differing = dict(values["contract"])
            values["contract"] = replace(CONTRACTS[differing.pop("like")], **differing)
        if "between" in values:
            least, most = values["between"]
            values["between"] = (least, most)
        if unsourced := set(values) - set(values["sources"]) - {"title", "sources"}:
            raise ValueError(f"no source for {sorted(unsourced)}")
        return Published(name=name, kind=kind, **values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} in the table of published files: {error}") from error
