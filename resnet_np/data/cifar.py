"""CIFAR-10 as its author publishes it for Python, read without running anything of it.

The folder `cifar-10-batches-py` holds pickles: five batches of 10,000 images for training, one for
testing, and the names of the classes. In a batch lies a dict that Python 2 wrote:

    "data": uint8 [10000, 3072], for each image 1,024 red values by rows, then green, then blue
    "labels": a list of numbers from 0 to 9;  "batch_label", "filenames": texts

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the layout is described at
https://www.cs.toronto.edu/~kriz/cifar.html, where the advice is to unpickle it. A pickle may run
any program, so it is read here by the machine that reads PyTorch's files: `NAMES` is all that it
can look up, and each stands for something that can do nothing but describe an array.

In class folders CIFAR-10 is read as any other images are.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from resnet_np.data.folders import HELD_OUT, split_stratified
from resnet_np.data.loader import ArrayImages
from resnet_np.errors import UserError
from resnet_np.weights.formats.torch_pickle import Fillable, Names, Stream, load
from resnet_np.weights.formats.torch_stand_ins import Maker

SIDE = 32
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
CLASS_NAMES = "batches.meta"
MOST = 1 << 26  # bytes of one pickle; a batch has 31 million


class _Bytes(Fillable):
    """numpy.dtype("u1"); what it is told afterwards says that a byte has no byte order."""

    def fill(self, state: Any) -> None:
        match state:
            case (int(), "|", None, None, None, -1, -1, 0):
                return
        raise ValueError("a type other than uint8")


class _Array(Fillable):
    """An array of bytes, from what `numpy.ndarray.__setstate__` would be given."""

    array: np.ndarray | None = None

    def fill(self, state: Any) -> None:
        match state:
            case (1, (int() as rows, int() as columns), _Bytes(), False, str() as text):
                if min(rows, columns) > 0 and rows * columns == len(text):
                    pixels = np.frombuffer(text.encode("latin-1"), np.uint8)
                    self.array = pixels.reshape(rows, columns)
                    return
        raise ValueError("an array that is no table of bytes, or is not all there")


def _make_bytes(arguments: tuple[Any, ...]) -> _Bytes:
    if arguments[:1] != ("u1",):
        raise ValueError("a type other than uint8")
    return _Bytes()


NAMES = Names(
    {
        "numpy.core.multiarray._reconstruct": Maker(lambda arguments: _Array()),
        "numpy.ndarray": None,
        "numpy.dtype": Maker(_make_bytes),
    },
    "which is no part of CIFAR-10 and was not looked up; fetch the python version anew",
)


def load_cifar10(
    folder: str | os.PathLike[str], rng: np.random.Generator
) -> dict[str, ArrayImages]:
    """The images of `cifar-10-batches-py`: "train", "validation" and "test", uint8 [N, 32, 32, 3].

    A tenth of the images for training, class by class, becomes the validation part, by `rng`.

    Raises UserError, naming the file: not there, damaged, asking for code, or other data than
    CIFAR-10's.
    """
    root = Path(folder)
    classes = _read_classes(root / CLASS_NAMES)
    batches = [_read_batch(root / name, len(classes)) for name in TRAIN]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    test_images, test_labels = _read_batch(root / TEST, len(classes))
    for names, found in ((f"{TRAIN[0]} to 5", labels), (TEST, test_labels)):
        missing = sorted(set(range(len(classes))) - set(found.tolist()))
        if missing:
            raise UserError(f"{root / names}: no image of class {classes[missing[0]]!r}")
    kept, held_out = split_stratified(labels, HELD_OUT, rng)
    return {
        "train": ArrayImages(images[kept], labels[kept], classes),
        "validation": ArrayImages(images[held_out], labels[held_out], classes),
        "test": ArrayImages(test_images, test_labels, classes),
    }


def is_cifar10(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is CIFAR-10 for Python, by the file that has the names of its classes."""
    return (Path(folder) / CLASS_NAMES).is_file()


def _read_classes(path: Path) -> tuple[str, ...]:
    match _read(path).get("label_names"):
        case [str(), str(), *_] as names if all(isinstance(name, str) for name in names):
            return tuple(names)
    raise UserError(f"{path}: names no classes; expected 'label_names', as CIFAR-10 has them")


def _read_batch(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [N, 32, 32, 3], labels int64 [N]) of one batch. Raises UserError."""
    record = _read(path)
    data, labels = record.get("data"), record.get("labels")
    if not isinstance(data, _Array) or data.array is None or data.array.shape[1] != 3 * SIDE**2:
        raise UserError(f"{path}: no images of 3,072 bytes under 'data', as CIFAR-10 has them")
    if not isinstance(labels, list) or len(labels) != len(data.array):
        raise UserError(f"{path}: not one label for each of its {len(data.array)} images")
    if not all(type(label) is int and 0 <= label < classes for label in labels):
        raise UserError(f"{path}: labels other than the numbers from 0 to {classes - 1}")
    planes = data.array.reshape(-1, 3, SIDE, SIDE)  # [N, 3 * H * W] -> [N, 3, H, W]
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))  # -> [N, H, W, 3]
    return images, np.array(labels, dtype=np.int64)


def _read(path: Path) -> dict[Any, Any]:
    """The dict in a pickle. Raises UserError."""
    try:
        with path.open("rb") as file:
            record = load(Stream(file, os.fstat(file.fileno()).st_size, MOST), names=NAMES)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; CIFAR-10 for Python is a folder with"
            f" {CLASS_NAMES}, {TRAIN[0]} to 5 and {TEST}"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not readable: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}: holds no dict, as the files of CIFAR-10 do")
    return record
