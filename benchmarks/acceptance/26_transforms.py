"""Do the transforms do what torchvision's and Keras' do, and does a seed fix every batch?

    RESNET_NP_TEST_DATA=... KERAS_BACKEND=torch python benchmarks/acceptance/26_transforms.py

Photographs of all shapes, and a few images made up, go through each transform here, and through
torchvision's functions and Keras' `apply_affine_transform`, which are told what was drawn here. A
line shows the largest difference in steps of a byte. torchvision's results must be equal. Keras'
are no whole numbers: half a step is what rounding them takes. It turns an image that is no square
about a point beside its centre; the shift that it is told makes up for that. (mixup and cutmix, and
from which ranges things are drawn, are compared in tests/compare/.)

Then 60 photographs are read and changed in batches, by 1, 2, 4 and 8 threads, twice each, and in
batches of another size: the bytes must be the same. Another seed and another epoch must change
every image.

Exits with 1 if anything differs. Three minutes.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))
from _showing import show
from transforming import Case, keras_cases, photographs, torchvision_cases

from resnet_np.data.folders import list_images
from resnet_np.data.images import decode
from resnet_np.data.loader import load_ahead, split_batches
from resnet_np.data.transforms import image_rng, parse
from resnet_np.data.transforms.base import Compose

VIEWS = 3  # of each photograph, in each comparison
PIPELINE = (
    "RandomResizedCrop(224), RandomHorizontalFlip(), RandomRotation(15), "
    "KerasAffine(shear_range=10, zoom_range=0.1), ColorJitter(0.4, 0.4, 0.4, 0.1), RandAugment(), "
    "RandomErasing(value='random')"
)


def compare(library: str, cases: Iterable[Case], images: list[np.ndarray]) -> bool:
    good = True
    for case in cases:
        differences = [
            case.difference(image, image_rng(0, view, i))
            for view in range(VIEWS)
            for i, image in enumerate(images)
        ]
        largest = max(differences)
        what = f"{library}, {case}, {len(differences)} images"
        asked = f"at most {case.allowed:g}"
        good &= show(what, f"{largest:g}", asked, largest <= case.allowed)
    return good


def views(paths: list[Path], threads: int, batch_size: int, seed: int, epoch: int) -> list[str]:
    """A hash of each changed image, by its place in the data set."""
    transform = Compose(parse(PIPELINE))

    def load(batch: np.ndarray) -> np.ndarray:
        images = ((i, np.asarray(decode(paths[i]))) for i in batch)
        return np.stack([transform(image, image_rng(seed, epoch, i)) for i, image in images])

    order = np.random.default_rng(0).permutation(len(paths))
    batches = load_ahead(load, split_batches(order, batch_size), threads)
    shuffled = [hashlib.sha256(view.tobytes()).hexdigest() for batch in batches for view in batch]
    return [shuffled[place] for place in np.argsort(order)]


def check_seeds(paths: list[Path]) -> bool:
    first = views(paths, threads=1, batch_size=16, seed=3, epoch=5)
    good = show(
        "different images", f"{len(set(first))}", f"{len(paths)}", len(set(first)) == len(paths)
    )
    for threads, batch_size in ((1, 16), (2, 16), (4, 16), (8, 16), (4, 7)):
        for _ in range(2):
            same = sum(map(str.__eq__, first, views(paths, threads, batch_size, 3, 5)))
            what = f"{threads} threads, batches of {batch_size}: images with the same bytes"
            good &= show(what, f"{same}", f"{len(paths)}", same == len(paths))
    for seed, epoch in ((4, 5), (3, 6)):
        same = sum(map(str.__eq__, first, views(paths, 4, 16, seed, epoch)))
        what = f"seed {seed}, epoch {epoch}: images with the same bytes"
        good &= show(what, f"{same}", "0", same == 0)
    return good


def main() -> int:
    # Keras imports scipy's function from where it was formerly.
    warnings.filterwarnings("ignore", "Please import `affine_transform`")
    folder = Path(os.environ["RESNET_NP_TEST_DATA"])
    images = photographs(folder)
    good = compare("torchvision", torchvision_cases(), images)
    good &= compare("Keras", keras_cases(), images)
    good &= check_seeds(list_images(folder / "images" / "trashnet" / "train")[::4][:60])
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
