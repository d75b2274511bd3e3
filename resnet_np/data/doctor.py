"""A data doctor: looks at every image before training does, and says what is wrong with which.

`examine` gives a `Diagnosis`, plain data for the screen, for a program or for a report. It changes
no file.
"""

import hashlib
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.data.folders import IMAGE_SUFFIXES
from resnet_np.data.images import decode
from resnet_np.data.likeness import find_near, group, make_thumbnail
from resnet_np.data.loader import load_ahead
from resnet_np.data.sources import Entry, Listing, list_source
from resnet_np.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MUCH_SMALLER = 1 / 2  # of the network's input; below, more than three of four pixels are made up
IMBALANCED = 2.0  # a class is this many times as large, or as small, as if all were equally large
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright

KINDS = {
    "empty": ("zero bytes", "get the file anew or remove it"),
    "truncated": ("truncated", "get the file anew or remove it"),
    "unreadable": ("unreadable", "get the file anew or remove it"),
    "missing": ("not there", "correct the table"),
    "no image": ("named as an image, but none", "remove it"),
    "passed over": ("an image, not named as one", "rename it, or it is not used"),
    "outside": ("outside of the class folders", "move it into one, or it is not used"),
    "misnamed": ("another format than its name says", "rename it; it is read all the same"),
    "turned": ("turned (EXIF orientation)", "read upright here; other programs may not"),
    "palette": ("palette", "is made RGB when read"),
    "colour space": ("CMYK or another colour space", "is made RGB when read"),
    "greyscale": ("greyscale", "is made RGB when read, three equal channels"),
    "alpha": ("transparency", "is left away when read"),
    "small": ("much smaller than the input", "find larger ones, or lower --image-size"),
    "leak": ("in two splits, the same or nearly", "keep it in one; figures would flatter"),
    "duplicate": ("the same file twice", "keep one"),
    "near duplicate": ("nearly the same image", "look; keep one, or keep them in one split"),
    "one class": ("one class only", "add another: at least two are needed"),
    "imbalance": ("classes of unequal size", "weigh them, or collect more of the small ones"),
    "too few": ("class too small to be split", "add images, or remove the class"),
    "missing class": ("class missing from a split", "add images of it"),
}
"""Kind of a finding -> (its title, what to do), in the order in which they are shown."""

# How the formats begin whose names `IMAGE_SUFFIXES` has, and the one that phones write instead.
# https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern; PPM and TIFF by their own
# specifications.
SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{4}\0\0\0\0",
    "WEBP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II\*\0|MM\0\*",
    "PPM": rb"P[1-6]\s+[#\d]",
    "HEIF": rb".{4}ftyp(hei[cx]|mif1|avif)",
}
NAMED = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".pgm": "PPM"}
NAMED |= {suffix: suffix[1:].upper() for suffix in IMAGE_SUFFIXES - NAMED.keys()}

MODES = {"P": "palette", "PA": "palette", "1": "greyscale", "L": "greyscale"}
MODES |= dict.fromkeys(("LA", "La", "RGBA", "RGBa"), "alpha")
MODES |= dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV"), "colour space")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: a kind of KINDS, the files it is about, and what was seen."""

    kind: str
    paths: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about a set of images.

    images: how many files are meant to be one; unlabelled: how many of these have no class.
    counts: images by split ("all" where there are none yet) and class.
    class_weights: by class, for the loss to count all of them alike: n / (K n_k), with n_k of the n
        images for training in class k of K (scikit-learn's "balanced").
    """

    source: str
    image_size: int
    images: int
    unlabelled: int
    counts: dict[str, dict[str, int]]
    class_weights: dict[str, float]
    findings: tuple[Finding, ...]

    def to_record(self) -> dict[str, Any]:
        """As values that JSON has."""
        return asdict(self)


@dataclass(frozen=True)
class Look:
    """What one file looks like. faults: (kind, detail). thumbnail: None if it cannot be read."""

    faults: tuple[tuple[str, str], ...]
    digest: bytes = b""
    thumbnail: np.ndarray | None = None


def examine(
    source: str | os.PathLike[str],
    image_size: int = 224,
    begin: Callable[[int], None] = lambda count: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Diagnosis:
    """Look at all images of a folder or table.

    Files are read by a few threads, which hold a few images at a time; under a kilobyte is kept of
    each image.
    The result does not depend on which thread was faster.

    image_size: of the network's input, in pixels. begin, advance: for a progress bar, told how many
    files there are, and how many more are done.

    Raises UserError where no images can be listed (`list_source`).
    """
    listing = list_source(source)
    files = [(e, True) for e in listing.entries] + [(e, False) for e in listing.others]
    begin(len(files))
    looks: list[Look] = []
    with warnings.catch_warnings():  # Pillow's, of odd tags and large sizes: no lines between ours
        warnings.simplefilter("ignore")
        for look in load_ahead(lambda f: inspect(f[0].path, image_size, meant=f[1]), files):
            looks.append(look)
            advance(1)
    findings = [
        Finding(kind, (entry.name,), detail)
        for (entry, _), look in zip(files, looks, strict=True)
        for kind, detail in look.faults
    ]
    findings += [Finding("outside", (entry.name,), "") for entry in listing.outside]
    findings += _find_copies(listing.entries, looks[: len(listing.entries)])
    counts = _count(listing)
    weights = _balanced(counts.get("train") or counts.get("all", {}))
    findings += _judge_classes(listing, counts, weights)
    order = list(KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    unlabelled = sum(entry.label is None for entry in listing.entries)
    return Diagnosis(
        os.fspath(source),
        image_size,
        len(listing.entries),
        unlabelled,
        counts,
        weights,
        tuple(findings),
    )


# --- one file ------------------------------------------------------------------------------------


def inspect(path: Path, image_size: int, meant: bool = True) -> Look:
    """Look at one file. meant: it is meant to be an image; if not, the only fault is to be one."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest() if meant else b""
            size = file.tell()
    except FileNotFoundError:
        return Look((("missing", ""),))
    except OSError as error:
        return Look((("unreadable", error.strerror or str(error)),))
    kind = find_format(head)
    if not meant:
        return Look((("passed over", f"{kind}"),) if kind else ())
    if not head:
        return Look((("empty", ""),))
    try:
        faults = _read_header(path, kind)
        image = decode(path)
    except UserError as error:
        return Look((_why_unreadable(path, head, size, kind, str(error)),))
    if min(image.size) < MUCH_SMALLER * image_size:
        faults.append(("small", f"{image.width} x {image.height}"))
    return Look(tuple(faults), digest, make_thumbnail(image))


def find_format(head: bytes) -> str | None:
    """The image format whose files begin with these bytes, or None."""
    for name, pattern in SIGNATURES.items():
        if re.match(pattern, head, re.DOTALL):
            return name
    return None


def _read_header(path: Path, kind: str | None) -> list[tuple[str, str]]:
    """The faults of an image that can be seen without its pixels; none if it has no header."""
    from PIL import Image

    faults = []
    try:
        with Image.open(path) as image:
            named, found = NAMED.get(path.suffix.lower()), kind or image.format
            if named not in (None, found):
                faults.append(("misnamed", f"{found}"))
            if (turned := _orientation(image)) != 1:
                faults.append(("turned", f"orientation {turned}"))
            mode = "greyscale" if image.mode.startswith("I") else MODES.get(image.mode)
            if "transparency" in image.info and mode != "alpha":
                faults.append(("alpha", f"a transparent colour in mode {image.mode}"))
            if mode is not None:
                faults.append((mode, f"mode {image.mode}"))
    except Exception:  # a decoder may fail on broken bytes with any kind of error: decode says why
        return []
    return faults


def _orientation(image: "Image") -> int:
    """1 to 8; 1 where there is no tag, or none that can be read."""
    try:
        turned = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken tags do no harm to the pixels
        return 1
    return turned if turned in range(1, 9) else 1


def _why_unreadable(
    path: Path, head: bytes, size: int, kind: str | None, reason: str
) -> tuple[str, str]:
    """The kind of the fault, and its detail, from what `decode` said of a file."""
    reason = reason.removeprefix(f"{path}: ").removesuffix("; repair or remove it")
    if kind == "HEIF":
        return "unreadable", "HEIF, which is not read here: save it as JPEG"
    if kind is None and "not an image format known here" in reason:
        return "no image", "text" if _is_text(head) else "bytes of no known image format"
    if kind == "WEBP" and int.from_bytes(head[4:8], "little") + 8 > size:
        return "truncated", "shorter than its header says"
    return "truncated" if "truncated" in reason.lower() else "unreadable", reason


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a file have no control codes but those that texts have."""
    return re.search(rb"[\0-\x08\x0e-\x1a\x7f]", head) is None


# --- all of them ---------------------------------------------------------------------------------


def _find_copies(entries: Sequence[Entry], looks: Sequence[Look]) -> list[Finding]:
    """Files with the same content, and images that are nearly the same: one finding a group."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for i, look in enumerate(looks):
        if look.thumbnail is not None:
            same[look.digest].append(i)
    copies = [places for places in same.values() if len(places) > 1]
    findings = [_copies(entries, places, "duplicate", "same content") for places in copies]
    firsts = [places[0] for places in same.values()]
    pairs = find_near(np.array([looks[i].thumbnail for i in firsts])) if firsts else []
    for near in group(pairs):
        places = sorted(place for k in near for place in same[looks[firsts[k]].digest])
        findings.append(_copies(entries, places, "near duplicate", "nearly the same"))
    return findings


def _copies(entries: Sequence[Entry], places: list[int], kind: str, detail: str) -> Finding:
    splits = sorted({split for i in places if (split := entries[i].split)})
    labels = sorted({entries[i].label or "no class" for i in places})
    if len(splits) > 1:
        kind, detail = "leak", f"{detail}; in {' and '.join(splits)}"
    if len(labels) > 1:
        detail += f"; under different labels: {', '.join(labels)}"
    return Finding(kind, tuple(entries[i].name for i in places), detail)


def _count(listing: Listing) -> dict[str, dict[str, int]]:
    """Labelled images by split and class; an unlabelled one counts nowhere."""
    counted = Counter((e.split or "all", e.label) for e in listing.entries)
    return {
        split: {name: counted[split, name] for name in listing.classes}
        for split in listing.splits or ("all",)
    }


def _balanced(counts: dict[str, int]) -> dict[str, float]:
    """n / (K n_k) of each class k that has images."""
    from sklearn.utils.class_weight import compute_class_weight

    present = [name for name, count in counts.items() if count]
    labels = np.repeat(np.arange(len(present)), [counts[name] for name in present])
    if not present:
        return {}
    weights = compute_class_weight("balanced", classes=np.arange(len(present)), y=labels)
    return dict(zip(present, weights.tolist(), strict=True))


def _judge_classes(
    listing: Listing, counts: dict[str, dict[str, int]], weights: dict[str, float]
) -> Iterable[Finding]:
    """Classes that are missing somewhere, too small to be split, or of very unequal size."""
    if len(listing.classes) == 1:
        yield Finding("one class", (), listing.classes[0])
    for split, by_class in counts.items():
        for name, count in by_class.items():
            if not count:
                yield Finding("missing class", (), f"{name}: no image in {split}")
    to_cut = {"all": 2, "train": 0 if "validation" in counts else 1}  # parts that scan_folder cuts
    for split, parts in to_cut.items():
        for name, count in counts.get(split, {}).items():
            if 0 < count <= parts:
                yield Finding("too few", (), f"{name}: {count} in {split}; {parts + 1} are needed")
    if any(weight > IMBALANCED or weight < 1 / IMBALANCED for weight in weights.values()):
        shown = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        yield Finding("imbalance", (), f"suggested class weights: {shown}")
