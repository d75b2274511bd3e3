"""CIFAR-10's pickles, as they were written in 2009, and what is made to look like them."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnet_np.data.cifar import TEST, TRAIN, load_cifar10
from resnet_np.data.folders import list_images
from resnet_np.data.images import fit
from resnet_np.data.loader import ArrayImages
from resnet_np.data.sources import list_source
from resnet_np.errors import UserError
from resnet_np.training.lint import examine
from resnet_np.training.options import Options
from resnet_np.training.results import _example
from resnet_np.training.setup import check_options, load_splits
from resnet_np.weights import TORCHVISION

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PUBLISHED_META_MD5 = "5ff9c542aee3614f3951f8cda6e48888"  # of batches.meta, as torchvision has it


class Writer:
    """Writes a pickle as Python 2's cPickle did: protocol 2, texts as bytes, all kept by number."""

    def __init__(self) -> None:
        self.bytes = bytearray(b"\x80\x02")
        self.kept = 0

    def keep(self) -> None:
        self.kept += 1
        head, number = (b"q", bytes([self.kept])) if self.kept < 256 else (b"r", self.kept)
        self.bytes += head + (number if isinstance(number, bytes) else struct.pack("<I", number))

    def write(self, value: Any) -> None:
        match value:
            case bool() | None:
                self.bytes += {None: b"N", True: b"\x88", False: b"\x89"}[value]
            case int() if 0 <= value < 256:
                self.bytes += b"K" + bytes([value])
            case int() if 0 <= value < 65536:
                self.bytes += b"M" + struct.pack("<H", value)
            case int():
                self.bytes += b"J" + struct.pack("<i", value)
            case bytes() | str():
                text = value if isinstance(value, bytes) else value.encode()
                short = len(text) < 256
                self.bytes += (
                    b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))
                )
                self.bytes += text
                self.keep()
            case list():
                self.bytes += b"]"
                self.keep()
                self.many(value, b"e")
            case dict():
                self.bytes += b"}"
                self.keep()
                self.many([part for item in value.items() for part in item], b"u")
            case np.ndarray():
                self.array(value)

    def many(self, values: list[Any], end: bytes) -> None:
        self.bytes += b"("
        for value in values:
            self.write(value)
        self.bytes += end

    def look_up(self, module: str, name: str) -> None:
        self.bytes += f"c{module}\n{name}\n".encode()
        self.keep()

    def array(self, array: np.ndarray) -> None:
        self.look_up("numpy.core.multiarray", "_reconstruct")
        self.look_up("numpy", "ndarray")
        self.bytes += b"K\x00\x85"
        self.keep()
        self.write("b")
        self.bytes += b"\x87"
        self.keep()
        self.bytes += b"R"
        self.keep()
        self.bytes += b"(K\x01"
        for size in array.shape:
            self.write(size)
        self.bytes += b"\x86"
        self.keep()
        self.look_up("numpy", "dtype")
        self.write(array.dtype.str[1:])
        self.bytes += b"K\x00K\x01\x87"
        self.keep()
        self.bytes += b"R"
        self.keep()
        self.many([3, array.dtype.str[0], None, None, None, -1, -1, 0], b"t")
        self.keep()
        self.bytes += b"b"
        self.write(False)
        self.write(array.tobytes())
        self.bytes += b"t"
        self.keep()
        self.bytes += b"b"


def as_python_2(value: Any) -> bytes:
    writer = Writer()
    writer.write(value)
    return bytes(writer.bytes) + b"."


META = as_python_2({"num_cases_per_batch": 10000, "label_names": CLASSES, "num_vis": 3072})


def batch(count: int = 20, seed: int = 0, **changes: Any) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {
        "batch_label": "training batch 1 of 5",
        "labels": [i % 10 for i in range(count)],
        "data": pixels,
        "filenames": [f"leptodactylus_pentadactylus_s_{i:06}.png" for i in range(count)],
    } | changes


def fill(folder: Path, count: int = 20) -> Path:
    for seed, name in enumerate((*TRAIN, TEST)):
        (folder / name).write_bytes(as_python_2(batch(count, seed)))
    (folder / "batches.meta").write_bytes(META)
    return folder


def load(folder: Path) -> dict[str, Any]:
    return dict(load_cifar10(folder, np.random.default_rng(0)))


def test_the_writer_here_writes_the_published_bytes():
    assert len(META) == 158
    assert hashlib.md5(META, usedforsecurity=False).hexdigest() == PUBLISHED_META_MD5


def test_python_itself_reads_the_same():
    wanted = batch()
    read = pickle.loads(as_python_2(wanted), encoding="latin-1")
    assert np.array_equal(read.pop("data"), wanted.pop("data"))
    assert read == wanted


def test_every_image_is_there_once_and_the_right_way_round(tmp_path):
    parts = load(fill(tmp_path))
    assert {name: part.images.shape for name, part in parts.items()} == {
        "train": (90, 32, 32, 3), "validation": (10, 32, 32, 3), "test": (20, 32, 32, 3),
    }  # fmt: skip
    assert all(part.classes == tuple(CLASSES) for part in parts.values())
    assert list(np.bincount(parts["validation"].labels)) == [1] * 10
    data = batch(20, 5)["data"]
    # By hand: 1,024 red values, row by row, then the green ones, then the blue ones.
    assert np.array_equal(parts["test"].images[7, 3, 30], data[7, [126, 1024 + 126, 2048 + 126]])
    assert parts["test"].labels.tolist() == batch()["labels"]
    shown = {image.tobytes() for part in parts.values() for image in part.images}
    assert len(shown) == 120


def test_a_whole_batch_of_the_published_size(tmp_path):
    fill(tmp_path)
    (tmp_path / TEST).write_bytes(as_python_2(batch(10_000)))
    assert load(tmp_path)["test"].images.shape == (10_000, 32, 32, 3)


def test_as_the_data_of_a_run(tmp_path):
    options = Options(data=str(fill(tmp_path)))
    splits = load_splits(options, TORCHVISION, 64)
    test, pixels = splits["test"], load(tmp_path)["test"].images
    assert {name: len(part.labels) for name, part in splits.items()} == {
        "train": 90, "validation": 10, "test": 20,
    }  # fmt: skip
    assert test.classes == tuple(CLASSES)
    seen = test.read(np.array([3, 7]))
    assert np.array_equal(seen[1], fit(Image.fromarray(pixels[7]), TORCHVISION, 64))
    assert np.array_equal(test.whole(7), pixels[7])
    assert "images of 32 pixels are shown to the network as 64" in "".join(examine(options, splits))


def test_samples_have_names_of_their_own(tmp_path):
    """A class may be called anything, also "../../x"."""
    (tmp_path / "run").mkdir()
    images = ArrayImages(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 2]), ("../../x", "a/b", ""))
    assert _example(tmp_path / "run", images) == tmp_path / "run" / "samples" / "2.png"
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == ["0.png", "2.png"]


def test_what_else_reads_folders_says_that_it_does_not_read_pickles(tmp_path):
    with pytest.raises(UserError, match=r"no class folders in it.*pickles are read for training"):
        list_source(fill(tmp_path))
    with pytest.raises(UserError, match=r"no images in this folder; .*pickles are read for train"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="--names: these images bring the names"):
        check_options(Options(data=str(tmp_path), names="names.txt"))


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("this must not be run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful(), 2), "not readable: pickle, byte 2: asks for '__builtin__.print'"),
        (b"cos\nsystem\n(U\x02lstR.", "not readable: pickle, byte 0: asks for 'os.system', which"),
        (b"cnumpy\nfromfile\n.", "asks for 'numpy.fromfile', which is no part of CIFAR-10 and was"),
        (b"", "not readable: pickle, byte 0: "),
        (as_python_2(batch())[:-100], "not readable: pickle, byte "),
        (as_python_2([1]), "holds no dict, as the files of CIFAR-10 do"),
        (as_python_2(batch(data=[1])), "no images of 3,072 bytes under 'data'"),
        (as_python_2(batch(data=np.zeros((20, 3071), np.uint8))), "no images of 3,072 bytes"),
        (as_python_2(batch(data=np.zeros((20, 3072), np.float32))), "a type other than uint8"),
        (as_python_2(batch(data=np.zeros((2, 3, 5), np.uint8))), "an array that is no table"),
        (as_python_2(batch()).replace(b"K\x14M\x00\x0c", b"K\x15M\x00\x0c"), "is not all there"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R}U\x04datacnumpy\nndarrays0.", "not readable"),
        (as_python_2(batch(labels=[0])), "not one label for each of its 20 images"),
        (as_python_2(batch(labels=[0] * 19 + [10])), "labels other than the numbers from 0 to 9"),
        (as_python_2(batch(labels=["cat"] * 20)), "labels other than the numbers from 0 to 9"),
        (as_python_2(batch(labels=[True] * 20)), "labels other than the numbers from 0 to 9"),
    ],
)
def test_what_is_refused(tmp_path, capfd, content, message):
    (fill(tmp_path) / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError) as refusal:
        load(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / 'data_batch_3'}: ")
    assert message in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("names", [[], ["cat"], ["cat", 5], "cats", None])
def test_class_names_that_are_none(tmp_path, names):
    (fill(tmp_path) / "batches.meta").write_bytes(as_python_2({"label_names": names}))
    with pytest.raises(UserError, match=r"batches\.meta: names no classes; expected 'label_names'"):
        load(tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    (fill(tmp_path) / TEST).write_bytes(as_python_2(batch(9)))
    with pytest.raises(UserError, match=r"test_batch: no image of class 'truck'"):
        load(tmp_path)


@pytest.mark.parametrize("name", [*TRAIN, TEST, "batches.meta"])
def test_a_missing_file_is_named(tmp_path, name):
    (fill(tmp_path) / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: cannot be read: No such file .*; CIFAR-10 for"):
        load(tmp_path)


WHOLE = as_python_2(batch(10))


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4), st.booleans())
def test_damaged_bytes_are_read_or_refused(tmp_path_factory, at, new, cut):
    folder = fill(tmp_path_factory.mktemp("c"), 10)
    path = folder / TEST
    path.write_bytes(WHOLE[:at] + new + (b"" if cut else WHOLE[at + len(new) :]))
    try:
        assert load(folder)["test"].images.shape[1:] == (32, 32, 3)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
