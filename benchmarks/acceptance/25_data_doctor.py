"""Does the data doctor find every fault, by path, and none where there is none?

    RESNET_NP_TEST_DATA=... python benchmarks/acceptance/25_data_doctor.py

Real photographs, `images/trashnet`: in the folder as it is, nothing must be found. In a copy, 18
kinds of fault are planted, each in photographs of its own; the findings must be these and no
others, kind by kind and path by path. Then the thresholds for images that are nearly the same are
measured: on altered copies of every seventh photograph, how many are found; among all photographs,
which pair comes nearest to being called the same. Exits with 1 where a claim fails. A minute.
"""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _showing import at_least, show
from PIL import Image, ImageEnhance

from resnet_np.data.doctor import KINDS, examine
from resnet_np.data.likeness import (
    LEAST_CORRELATION,
    MOST_BITS,
    difference_bits,
    find_near,
    make_thumbnail,
)

Planted = set[tuple[str, tuple[str, ...]]]
ROTATED = 6  # the EXIF orientation of a camera that was held upright


def read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


class Copy:
    """A copy of the photographs, in which faults are planted; `planted` is what must be found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.planted: Planted = set()
        self.unused = sorted((root / "train").rglob("*.jpg"))

    def pick(self, name: str = "glass") -> Path:
        """A photograph of this class for training that nothing has been done to yet."""
        return self.unused.pop(next(i for i, p in enumerate(self.unused) if p.parent.name == name))

    def expect(self, kind: str, *paths: Path) -> None:
        self.planted.add((kind, tuple(sorted(str(p.relative_to(self.root)) for p in paths))))

    def damage(self, kind: str, change: Callable[[bytes], bytes], suffix: str = ".jpg") -> None:
        """Put other bytes in the place of a photograph's, under another suffix."""
        path = self.pick()
        new = path.with_suffix(suffix)
        content = change(path.read_bytes())
        path.unlink()
        new.write_bytes(content)
        self.expect(kind, new)

    def convert(self, kind: str, mode: str, suffix: str = ".jpg") -> None:
        """Save a photograph in another mode."""
        path = self.pick()
        image = read(path).convert(mode)
        path.unlink()
        image.save(path.with_suffix(suffix))
        self.expect(kind, path.with_suffix(suffix))


def plant(root: Path) -> Planted:
    """One or more of each kind of fault; everything that must be found."""
    copy = Copy(root)
    copy.damage("empty", lambda content: b"")
    copy.damage("truncated", lambda content: content[: len(content) // 2])
    copy.damage("truncated", lambda content: content[:-100])
    copy.damage("unreadable", lambda content: content[:3] + bytes(len(content)))
    copy.damage("no image", lambda content: b"<!DOCTYPE html><title>404 Not Found</title>")
    copy.damage("passed over", lambda content: content, ".jfif")
    copy.damage("misnamed", lambda content: content, ".png")
    copy.convert("palette", "P", ".png")
    copy.convert("colour space", "CMYK")
    copy.convert("greyscale", "L")
    copy.convert("alpha", "RGBA", ".png")

    path = copy.pick()
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    read(path).rotate(90, expand=True).save(path, exif=exif)
    copy.expect("turned", path)

    path = copy.pick()
    read(path).resize((100, 75)).save(path)
    copy.expect("small", path)

    path = copy.pick()
    shutil.move(path, root / "loose.jpg")
    copy.expect("outside", root / "loose.jpg")

    for kind, new in (
        ("duplicate", root / "train" / "glass" / "again.jpg"),
        ("duplicate", root / "train" / "metal" / "again.jpg"),
        ("leak", root / "test" / "glass" / "again.jpg"),
    ):
        path = copy.pick()
        shutil.copy(path, new)
        copy.expect(kind, path, new)
    for kind, new in (
        ("near duplicate", root / "train" / "paper" / "nearly.jpg"),
        ("leak", root / "test" / "paper" / "nearly.jpg"),
    ):
        path = copy.pick("paper")
        read(path).resize((300, 225)).save(new, quality=60)
        copy.expect(kind, path, new)

    shutil.rmtree(root / "test" / "trash")
    copy.planted.add(("missing class", ()))
    for path in sorted((root / "train" / "trash").iterdir())[10:]:
        path.unlink()  # 10 are left of 40: less than half of an equal share
    copy.planted.add(("imbalance", ()))
    return copy.planted


def find(folder: Path) -> Planted:
    return {(f.kind, tuple(sorted(f.paths))) for f in examine(folder).findings}


def altered(image: Image.Image) -> dict[str, Image.Image]:
    """Copies that a person would call the same image."""
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=20)
    edge = image.width // 50
    return {
        "JPEG of quality 20": Image.open(stored),
        "a quarter of the size": image.resize((image.width // 4, image.height // 4)),
        "15 % lighter": ImageEnhance.Brightness(image).enhance(1.15),
        "less contrast": ImageEnhance.Contrast(image).enhance(0.8),
        "trimmed by 2 %": image.crop((edge, edge, image.width - edge, image.height - edge)),
    }


def measure_likeness(paths: list[Path]) -> bool:
    """How many altered copies are found, and how near different photographs come."""
    found: dict[str, list[bool]] = {}
    thumbnails = []
    for i, path in enumerate(paths):
        image = read(path)
        thumbnails.append(make_thumbnail(image))
        for name, other in altered(image).items() if i % 7 == 0 else ():
            pair = np.stack([thumbnails[-1], make_thumbnail(other)])
            found.setdefault(name, []).append(bool(find_near(pair)))
    well = True
    for name, each in found.items():
        share = 100 * float(np.mean(each))
        well &= at_least(f"copies found, {name}", share, 90, " %", f" of {len(each)}")
    all_ = np.stack(thumbnails)
    bits = difference_bits(all_)
    correlation = np.triu(np.corrcoef(all_.reshape(len(all_), -1)), k=1)
    i, j = np.nonzero(correlation >= LEAST_CORRELATION)
    fewest = min(np.bitwise_count(bits[i] ^ bits[j]).sum(axis=1), default=512)
    print(f"        among different photographs of correlation {LEAST_CORRELATION} or more, at "
          f"least {fewest} of 512 bits differ; {MOST_BITS} may")  # fmt: skip
    return well


def main() -> int:
    trashnet = Path(os.environ["RESNET_NP_TEST_DATA"]) / "images" / "trashnet"
    clean = find(trashnet)
    well = show("findings in the clean folder", str(len(clean)), "0", not clean)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        shutil.copytree(trashnet, root)
        planted = plant(root)
        seen = find(root)
    for kind in KINDS:
        wanted = {paths for k, paths in planted if k == kind}
        got = {paths for k, paths in seen if k == kind}
        if wanted or got:
            paths = "; ".join(" = ".join(p) for p in sorted(got))
            well &= show(
                kind, paths or f"{len(got)} found", f"{len(wanted)} planted", got == wanted
            )
    kinds = len({kind for kind, _ in planted})
    well &= at_least("kinds of fault that were planted", kinds, 12)
    well &= measure_likeness(sorted(trashnet.rglob("*.jpg")))
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
