"""Photographs of rubbish: the head alone, then layer4, here and in PyTorch.

    python benchmarks/acceptance/24_unfreezing.py [DATA] [--keep FOLDER]

DATA is the folder of real weights and images (default: RESNET_NP_TEST_DATA). Needs torch and
torchvision. trashnet's 240 photographs for training, of which a tenth validates, and 90 for the
test; ten epochs of a head, five of layer4 and the head, what is frozen computed once; three seeds;
fifteen minutes on 2 cores. The mean of ours must not lie below the lowest of PyTorch's, and it must
not take longer. FOLDER keeps what our runs leave, to look at the reports.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from _samples import WEIGHTS, find_data
from _showing import at_least, show
from _two_phases import run_ours, run_torch, unfold

VALIDATION = 4  # photographs of each class


def link(photographs: Path, folder: Path) -> Path:
    """FOLDER/{train,val,test}/CLASS/IMAGE, linked to the photographs."""
    for part in ("train", "val", "test"):
        for images in sorted((photographs / ("test" if part == "test" else "train")).iterdir()):
            paths = sorted(images.iterdir())
            (folder / part / images.name).mkdir(parents=True)
            cut = {"train": paths[VALIDATION:], "val": paths[:VALIDATION], "test": paths}[part]
            for path in cut:
                (folder / part / images.name / path.name).symlink_to(path)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description="The head, then layer4, here and in PyTorch.")
    parser.add_argument("data", nargs="?", default=os.environ.get("RESNET_NP_TEST_DATA", ""))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for what our runs leave")
    args = parser.parse_args()
    data = find_data(args.data)
    if data is None:
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        images = link(data / "images" / "trashnet", Path(scratch) / "trashnet")
        weights = unfold(data / WEIGHTS, images, "crop", Path(scratch) / "weights.npz")
        common = ["--data", str(images), "--weights", str(weights)]
        phases = ["--phase", "unfreeze=fc; epochs=10"]
        phases += ["--phase", "unfreeze=layer4; epochs=5; lr=0.0001"]
        out = args.keep or Path(scratch) / "ours"
        ours = run_ours([*common, "--model", "resnet50", *phases], out)
        theirs = run_torch([*common, "--epochs", "10", "5", "--lr", "0.003", "0.0001"])
    print(f"        resnet_np: {ours}")
    print(f"        PyTorch:   {theirs}")
    low, high = min(theirs.accuracy), max(theirs.accuracy)
    right = show(
        "right answers on 90 test images, mean of three seeds",
        f"{ours.mean:.1%}; PyTorch {theirs.mean:.1%} ({low:.1%} to {high:.1%})",
        "at least PyTorch's lowest",
        ours.mean >= low,
    )
    ratio = median(theirs.seconds) / median(ours.seconds)
    return 0 if at_least("time, PyTorch's over ours", ratio, 1) and right else 1


if __name__ == "__main__":
    sys.exit(main())
