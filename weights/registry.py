"""The published weight files that are known by name: where each is, and what it expects.

The table itself is registry.toml, which says of every figure where it was read. What nobody
published is absent there and None here; nothing is guessed.
"""

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from resnet_np.errors import UserError
from resnet_np.weights.contract import KERAS_CAFFE, TORCHVISION, Contract

CONTRACTS = {"torchvision": TORCHVISION, "keras": KERAS_CAFFE}
MIB = 1024 * 1024
MOST_BYTES = 1024 * MIB
"""No published ResNet is larger; the limit where an entry gives no size."""
PIECE = 1024 * 1024


@dataclass(frozen=True)
class Published:
    """One published file; None wherever the publisher says nothing.

    kind: "weights", or "classes" for a list of class names.
    address: where it is, https.
    bytes: its exact length. mebibytes: its length in 2^20 bytes as published, rounded.
    sha256: the 64 hexadecimal digits, or as many of the first ones as were published.
    md5: the 32 hexadecimal digits.
    top1, top5: per cent of right answers on ImageNet's validation images, as published.
    bn_eps, contract, variant: as in WeightFile.
    classes: the name of the entry that lists the class names, in the order of the outputs.
    sources: field -> the address where its value was read.
    """

    name: str
    kind: str
    title: str
    address: str
    sources: Mapping[str, str]
    bytes: int | None = None
    mebibytes: float | None = None
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
        """The name in the cache folder. That of the address may stand for two different files."""
        ending = "".join(PurePosixPath(self.address).suffixes[-1:])
        return self.name.replace("/", "--") + ending

    @property
    def has_hash(self) -> bool:
        return self.sha256 is not None or self.md5 is not None

    def size_range(self) -> tuple[int, int]:
        """The least and the most bytes that the file can have."""
        if self.bytes is not None:
            return self.bytes, self.bytes
        if self.mebibytes is not None:  # rounded to two digits behind the point
            return round((self.mebibytes - 0.006) * MIB), round((self.mebibytes + 0.006) * MIB)
        return 1, MOST_BYTES

    def fits(self, hashes: "Hashes") -> bool:
        """Whether a file of these hashes is this one: all that was published must agree."""
        least, most = self.size_range()
        return (
            self.has_hash
            and least <= hashes.bytes <= most
            and hashes.sha256.startswith(self.sha256 or "")
            and hashes.md5 == (self.md5 or hashes.md5)
        )


@dataclass(frozen=True)
class Hashes:
    """The length of a file and its hashes, in lower-case hexadecimal digits."""

    bytes: int
    sha256: str
    md5: str


def names() -> list[str]:
    """The names of all published weights, in the order of the table."""
    return [entry.name for entry in _table().values() if entry.kind == "weights"]


def find(name: str) -> Published:
    """The entry of a name. Raises UserError, listing the names, if there is none."""
    try:
        return _table()[name]
    except KeyError:
        raise UserError(
            f"{name!r} is no published file that is known here; known are {', '.join(names())}"
        ) from None


def recognise(path: str | os.PathLike[str]) -> Published | None:
    """The published weights that a file is, byte for byte, or None. A folder is none.

    The file is read for this only if its length is that of an entry.
    """
    if not os.path.isfile(path):
        return None
    size = os.path.getsize(path)
    candidates = []
    for name in names():
        least, most = find(name).size_range()
        if least <= size <= most and find(name).has_hash:
            candidates.append(find(name))
    if not candidates:
        return None
    hashes = hash_file(path)
    return next((entry for entry in candidates if entry.fits(hashes)), None)


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
    """The entries of a table like registry.toml. Raises ValueError where one is not as it should.

    A contract is written as the one that it is like and what differs from that:
    `contract = { like = "torchvision", resize = 232 }`. Sources are written once, under a short
    name; each entry lists the fields that were read there.
    """
    table = tomllib.loads(text)
    return {
        name: _entry(name, dict(record), table["source"])
        for kind in ("weights", "classes")
        for name, record in ((n, r | {"kind": kind}) for n, r in table[kind].items())
    }


def _entry(name: str, record: dict[str, Any], addresses: Mapping[str, str]) -> Published:
    unknown = set(record) - {field.name for field in fields(Published)}
    if unknown:
        raise ValueError(f"{name}: unknown fields {sorted(unknown)}")
    if "contract" in record:
        differing = dict(record["contract"])
        record["contract"] = replace(CONTRACTS[differing.pop("like")], **differing)
    record["sources"] = {
        field: addresses[source] for source, read in record["sources"].items() for field in read
    }
    return Published(name=name, **record)
