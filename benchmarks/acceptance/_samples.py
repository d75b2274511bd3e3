"""Class folders of real images: parts of what lies in RESNET_NP_TEST_DATA."""

import sys
import tarfile
from pathlib import Path

WEIGHTS = "weights/resnet50_pqf_large_decoded.npz"
CIFAR = "images/cifar10-jpeg-10k-test-5k-train.tar.xz"
SIGNS = "images/sign-language-digits"
CIFAR_PARTS = {"train": ("train", 0, 100), "val": ("train", 100, 110), "test": ("test", 0, 100)}


def find_data(named: str) -> Path | None:
    """The folder of real data, in full; None if it is not there, which is said."""
    data = Path(named).resolve()
    if not (data / WEIGHTS).exists():
        print(f"no {WEIGHTS} in {named!r}: give the data folder", file=sys.stderr)
        return None
    return data


def cut_cifar(data: Path, folder: Path) -> Path:
    """FOLDER/cifar/PART/CLASS/IMAGE: 1,000 images to train on, 100 to validate, 1,000 to test: of
    each class the first ones that the archive has.
    """
    with tarfile.open(data / CIFAR) as tar:
        tar.extractall(folder / "all", filter="data")
    (root,) = (folder / "all").iterdir()
    for part, (source, first, last) in CIFAR_PARTS.items():
        for images in sorted(path for path in (root / source).iterdir() if path.is_dir()):
            target = folder / "cifar" / part / images.name
            target.mkdir(parents=True)
            for path in sorted(images.iterdir())[first:last]:
                path.rename(target / path.name)
    return folder / "cifar"
