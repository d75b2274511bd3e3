"""The table of published weights: complete, well-typed, each figure with its source; hashes."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from tiny import torchvision_arrays

from resnet_np.errors import UserError
from resnet_np.weights import KERAS_CAFFE, TORCHVISION, Contract, read, registry
from resnet_np.weights.registry import Hashes, Published, find, hash_file, parse, recognise

TABLE = registry._table()
WEIGHTS = [entry for entry in TABLE.values() if entry.kind == "weights"]
PARAMETERS = {18: 11.7e6, 34: 21.8e6, 50: 25.6e6, 101: 44.6e6, 152: 60.3e6}
HEAD = 2_049_000
CONTENT = b"a published file"
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
HASHES = Hashes(len(CONTENT), SHA256, MD5)

each = pytest.mark.parametrize("entry", WEIGHTS, ids=lambda entry: entry.name)


# --- the table as it is --------------------------------------------------------------------------


def test_names_that_users_rely_on() -> None:
    assert registry.names() == [entry.name for entry in WEIGHTS]
    for name in ("imagenet-v2", "imagenet-v1", "keras", "keras-1", "microsoft/resnet-50"):
        assert find(name).depth == 50
    with pytest.raises(UserError, match=r"^'nosuch' is the name of no published file; `python -m"):
        find("nosuch")


@each
def test_every_entry_is_complete(entry: Published) -> None:
    assert entry.title and entry.licence
    assert entry.depth in PARAMETERS
    assert entry.has_hash
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{8}([0-9a-f]{56})?", entry.sha256)
    assert entry.md5 is None or re.fullmatch("[0-9a-f]{32}", entry.md5)
    assert entry.bn_eps in (1e-5, 1.001e-5, 1e-3)
    assert isinstance(entry.contract, Contract) and entry.contract.crop == 224
    if entry.depth < 50:
        assert entry.variant is None
    else:
        assert entry.variant == ("v1" if entry.contract == KERAS_CAFFE else "v1.5")
    if entry.top1 is not None:
        assert entry.top5 is not None and 60 < entry.top1 < entry.top5 < 100


@each
def test_every_length_is_that_of_its_numbers(entry: Published) -> None:
    least, most = entry.least_and_most
    numbers = PARAMETERS[entry.depth or 0] - (0 if entry.classes else HEAD)
    assert 4 * numbers * 0.99 < least <= most < 4 * numbers * 1.03


@each
def test_every_entry_says_where_its_figures_were_read(entry: Published) -> None:
    stated = {f.name for f in fields(entry) if getattr(entry, f.name) is not None}
    assert set(entry.sources) == stated - {"name", "kind", "title", "sources"}


def test_all_addresses_are_https() -> None:
    for entry in TABLE.values():
        for address in (entry.address, *entry.sources.values()):
            parts = urlsplit(address)
            assert parts.scheme == "https" and parts.netloc, address


def test_no_two_entries_share_a_file() -> None:
    for key in ("file_name", "address", "sha256", "md5"):
        values = [getattr(entry, key) for entry in TABLE.values()]
        stated = [value for value in values if value is not None]
        assert len(set(stated)) == len(stated), key


def test_class_names_belong_to_what_has_a_head() -> None:
    for entry in WEIGHTS:
        assert entry.classes == (None if entry.name.endswith("-notop") else "imagenet-classes")
    assert TABLE["imagenet-classes"].kind == "classes"


# --- reading a table -----------------------------------------------------------------------------

GOOD = """
[source]
page = "https://example.org/page"
[weights."a/b.c"]
title = "a network"
address = "https://example.org/files/net.tar.pth"
bytes = 16
sha256 = "abcdef01"
contract = { like = "torchvision", resize = 232 }
sources = { page = ["address", "bytes", "sha256", "contract"] }
[classes]
"""


def test_an_entry() -> None:
    entry = parse(GOOD)["a/b.c"]
    assert entry.contract == replace(TORCHVISION, resize=232)
    assert entry.file_name == "a--b.c.pth"
    assert entry.sources["bytes"] == "https://example.org/page"
    assert entry.top1 is entry.variant is entry.classes is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"bytes", ', "", "no source for ['bytes']"),
        ("page = [", "other = [", "other"),
        ('like = "torchvision"', 'like = "nobody"', "nobody"),
        ("resize = 232", "resize = 1", "does not fit"),
        ("resize = 232", "colour = 1", "colour"),
        ("bytes = 16", "length = 16", "no source for ['length']"),
        ('"bytes", ', '"length", ', "no source for ['bytes']"),
        ("bytes = 16", "between = [1, 2, 3]", "unpack"),
        ('address = "https://example.org/files/net.tar.pth"', "", "address"),
    ],
)
def test_a_bad_entry_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=re.escape("a/b.c in the table")) as raised:
        parse(GOOD.replace(old, new))
    assert message in str(raised.value)


# --- hashes --------------------------------------------------------------------------------------


def published(**facts: object) -> Published:
    return Published("some", "weights", "", "https://example.org/x.pth", {}, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        ({"sha256": SHA256}, None),
        ({"sha256": SHA256[:8]}, None),
        ({"md5": MD5}, None),
        ({"sha256": SHA256, "md5": MD5, "bytes": 16}, None),
        ({"sha256": SHA256, "between": (16, 20)}, None),
        ({"bytes": 16}, "nobody has published its hash"),
        ({"sha256": SHA256, "bytes": 17}, "16 bytes where 17 are due"),
        ({"sha256": SHA256, "between": (1000, 2000)}, "16 bytes where 1,000 to 2,000 are due"),
        ({"sha256": "0" * 8}, f"a sha256 of {SHA256[:8]}... where 00000000... is due"),
        ({"sha256": SHA256, "md5": "0" * 32}, f"a md5 of {MD5[:8]}... where 00000000... is due"),
    ],
)
def test_what_is_wrong_with_a_file(facts: dict[str, object], wrong: str | None) -> None:
    assert published(**facts).wrong(HASHES) == wrong


def test_hashes_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PIECE", 5)
    (tmp_path / "a").write_bytes(CONTENT)
    assert hash_file(tmp_path / "a") == HASHES
    with pytest.raises(UserError, match=r"nothing: cannot be read: No such file"):
        hash_file(tmp_path / "nothing")


# --- recognising ---------------------------------------------------------------------------------


@pytest.fixture
def know(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the table have these entries only."""

    def put(*entries: Published) -> None:
        table = {entry.name: entry for entry in entries}
        monkeypatch.setattr(registry, "_table", lambda: table)

    return put


def test_a_file_is_recognised(tmp_path: Path, know: Callable[..., None]) -> None:
    other = replace(published(md5="0" * 32), name="other")
    know(other, published(sha256=SHA256[:8], between=(10, 20)))
    path = tmp_path / "renamed"
    path.write_bytes(CONTENT)
    found = recognise(path)
    assert found is not None and found.name == "some"
    path.write_bytes(CONTENT[:-1] + b"E")
    assert recognise(path) is None
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "nothing") is None


def test_a_file_of_another_length_is_not_even_read(
    tmp_path: Path, know: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    know(published(sha256=SHA256, bytes=17), published(bytes=16))
    monkeypatch.setattr(registry, "hash_file", lambda path: pytest.fail("it was read"))
    (tmp_path / "a").write_bytes(CONTENT)
    assert recognise(tmp_path / "a") is None


def test_what_the_publisher_says_counts(
    tmp_path: Path, know: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare .npz can tell neither variant nor epsilon nor contract: the registry can."""
    path = tmp_path / "a.npz"
    np.savez(path, **torchvision_arrays())
    unknown = read(path)
    assert (unknown.published, unknown.variant) == (None, None)
    names = json.dumps({"0": ["n0", "a"], "1": ["n1", "b"], "2": ["n2", "c"]}).encode()
    facts = {"variant": "v1", "bn_eps": 0.25, "contract": KERAS_CAFFE, "classes": "names"}
    know(
        published(md5=hash_file(path).md5, **facts),
        replace(published(md5=hashlib.md5(names).hexdigest()), name="names", kind="classes"),
    )
    monkeypatch.setenv("RESNET_NP_CACHE", str(tmp_path / "cache"))
    file = read(path)
    assert (file.published, file.variant, file.bn_eps) == ("some", "v1", 0.25)
    assert file.contract == KERAS_CAFFE
    assert file.classes is None  # nothing is fetched for this
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "names.pth").write_bytes(names)
    assert read(path).classes == ("a", "b", "c")
