"""Class folders: one folder per class, with or without `train`, `val` and `test` above them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_np.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}

SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

# What people call the parts of a data set. Such folders are hardly ever classes.
SPLIT_WORD = re.compile(
    r"(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval(uation)?)([ _-]?(set|data|images|\d+))?"
)

HELD_OUT = 0.1  # the share of each class that a missing validation or test part gets


@dataclass(frozen=True)
class Samples:
    """Image files and their classes: `labels[i]` says where in `classes` file `paths[i]` belongs.

    paths: tuple of Path, length N. labels: int64 [N]. classes: names, in the order of the labels.
    columns: what a table says about the images beside that, by name; N texts each.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: np.ndarray) -> "Samples":
        """The samples at these places, in this order."""
        paths = tuple(self.paths[i] for i in indices)
        columns = {name: tuple(texts[i] for i in indices) for name, texts in self.columns.items()}
        return Samples(paths, self.labels[indices], self.classes, columns)


def scan_folder(folder: str | os.PathLike[str], rng: np.random.Generator) -> dict[str, Samples]:
    """The samples of `folder` by split: "train", "validation" and, where there is one, "test".

    `folder/<class>/*.jpg` is split 80/10/10. `folder/train/<class>/*.jpg` keeps its own splits
    (`val`, `valid` or `validation`; `test`); without a validation part, a tenth of `train` becomes
    one. Parts are cut class by class, by `rng`. Files that are no images are passed over.

    Raises:
        UserError: no such folder, no class folders, one class only, a class without images, a class
            too small to be split, or one that `train` does not know; split folders with other
            names, or with other folders beside them.
    """
    root = Path(folder)
    splits = find_splits(root)
    if not splits:
        return cut_parts(root, _scan_classes(root), ("test", "validation"), rng)
    train = _scan_classes(splits["train"])
    parts = {"train": train}
    if "validation" not in splits:
        parts = cut_parts(splits["train"], train, ("validation",), rng)
    for split in ("validation", "test"):
        if split in splits:
            parts[split] = _scan_classes(splits[split], known=train.classes)
    return parts


def find_splits(root: Path) -> dict[str, Path]:
    """The folder of each split in `root`; none if it holds classes. Raises UserError as
    `scan_folder` does, as far as it is about splits.
    """
    folders = subfolders(root)
    return _name_splits(root, folders) if _are_splits(folders) else {}


def _are_splits(folders: list[Path]) -> bool:
    """Whether folders look like the parts of a data set, by their names, and not like its classes.

    One alone may be a class: `train` beside `car` and `plane`, if images lie in it, not folders.
    """
    named = [path for path in folders if SPLIT_WORD.fullmatch(path.name.lower())]
    return len(named) >= 2 or any(subfolders(path) for path in named)


def _name_splits(root: Path, folders: list[Path]) -> dict[str, Path]:
    """The folder of each split. Raises UserError if one has no known name, or there is no train."""
    splits: dict[str, Path] = {}
    for path in folders:
        split = SPLIT_NAMES.get(path.name.lower())
        if split is None:
            raise UserError(
                f"{path}: {root} seems to hold the parts of a data set, which must be called "
                f"train, val and test; rename {path.name!r} or move it elsewhere"
            )
        if split in splits:
            raise UserError(f"{path}: more than one {split} folder; keep it or {splits[split]}")
        splits[split] = path
    if "train" not in splits:
        raise UserError(f"{root}: has {' and '.join(splits)} folders, but none called train")
    return splits


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Every image file in `folder` and below it, sorted. Raises UserError if there is none."""
    root = Path(folder)
    subfolders(root)  # says what is wrong where this is no readable folder
    images = _images_below(root, set())
    if not images:
        raise UserError(f"{root}: no images in this folder{about_pickles(root)}")
    return images


def about_pickles(root: Path) -> str:
    """What to add where a folder has no images: that it is CIFAR-10 for Python, if it is."""
    from resnet_np.data.cifar import is_cifar10  # which needs this file

    return "; CIFAR-10's pickles are read for training only" if is_cifar10(root) else ""


def split_stratified(
    labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of (the larger part, the smaller part): `share` of each class, at least one image.

    labels: int64 [N]. Both results are sorted int64 arrays that together hold 0..N-1 once.
    """
    smaller: list[int] = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        smaller.extend(members[: max(1, round(share * len(members)))])
    held_out = np.array(sorted(smaller), dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def cut_parts(
    source: Path, samples: Samples, missing: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Samples]:
    """Cut the missing parts off `samples`; each gets HELD_OUT of all of them, class by class.

    source: the folder or table that they are from. Raises UserError for a class that is too small.
    """
    counts = np.bincount(samples.labels, minlength=len(samples.classes))
    if counts.min() <= len(missing):
        small = samples.classes[int(counts.argmin())]
        raise UserError(
            f"{source}: class {small}: {counts.min()} image(s), too few to split off "
            f"{' and '.join(missing)}; a class needs at least {len(missing) + 1}"
        )
    parts: dict[str, Samples] = {}
    rest, share = samples, HELD_OUT
    for name in missing:
        kept, held_out = split_stratified(rest.labels, share, rng)
        rest, parts[name] = rest.take(kept), rest.take(held_out)
        share = HELD_OUT / (1 - HELD_OUT)  # of what is left, for a tenth of the whole
    return {"train": rest, **parts}


def _scan_classes(root: Path, known: tuple[str, ...] | None = None) -> Samples:
    """The images of `root/<class>/`. `known`: the classes of `train`, whose numbering is kept."""
    folders = subfolders(root)
    classes = known or tuple(path.name for path in folders)
    if not folders:
        raise UserError(f"{root}: no class folders in it; expected {root}/<class>/<image>.jpg")
    if len(classes) < 2:
        raise UserError(f"{root}: one class only ({classes[0]!r}); at least two are needed")
    paths: list[Path] = []
    labels: list[int] = []
    visited = {os.path.realpath(root)}
    for folder in folders:
        if folder.name not in classes:
            raise UserError(
                f"{folder}: class {folder.name!r} is not among those of train; add "
                "images of it there, or remove it"
            )
        images = _images_below(folder, visited)
        if not images:
            raise UserError(f"{folder}: class folder without images; fill it or remove it")
        paths += images
        labels += [classes.index(folder.name)] * len(images)
    return Samples(tuple(paths), np.array(labels, dtype=np.int64), classes)


def subfolders(root: Path) -> list[Path]:
    """The visible folders in `root`, sorted by name. Raises UserError if it cannot be listed."""
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise UserError(f"{root}: no readable folder: {error.strerror}") from error


def is_image_name(path: Path) -> bool:
    """Whether a file is taken for an image, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def _images_below(root: Path, visited: set[str]) -> list[Path]:
    """Visible image files in `root` and its folders, sorted."""
    return [path for path in files_below(root, visited) if is_image_name(path)]


def files_below(root: Path, visited: set[str]) -> list[Path]:
    """Visible files in `root` and its folders, sorted; links to folders are followed.

    visited: the true paths of folders that were looked into already. They are passed over, because
    a link to a folder above itself would show the same images again and again.
    """
    found = []
    for folder, inner, names in os.walk(root, followlinks=True):
        true_path = os.path.realpath(folder)
        if true_path in visited:
            inner.clear()  # what os.walk finds here it does not go down into
            continue
        visited.add(true_path)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)
