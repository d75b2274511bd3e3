"""The example `examples/cifar_finetune` reaches what PyTorch reaches with the same recipe.

    python benchmarks/acceptance/23_cifar_parity.py [DATA] [--seeds N...]

DATA is the folder of real weights and images (default: RESNET_NP_TEST_DATA). Needs torch and
torchvision. On 1,000 training and 1,000 test images of CIFAR-10, a hundred of each class, at seven
times their size; three seeds each, or those of N for ours; half an hour on 2 cores. The mean of
ours must not lie below the lowest of PyTorch's. Between seeds the order of the images and the first
head differ, so single runs differ as well; both programs begin with the same weights.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from _samples import WEIGHTS, cut_cifar, find_data
from _showing import show
from _two_phases import SEEDS, run_ours, run_torch, unfold

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "cifar_finetune" / "recipe.toml"


def main() -> int:
    parser = argparse.ArgumentParser(description="CIFAR-10 in two phases, here and in PyTorch.")
    parser.add_argument("data", nargs="?", default=os.environ.get("RESNET_NP_TEST_DATA", ""))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of our runs")
    args = parser.parse_args()
    data = find_data(args.data)
    if data is None:
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        images = cut_cifar(data, Path(scratch))
        weights = unfold(data / WEIGHTS, images, "stretch", Path(scratch) / "weights.npz")
        common = ["--data", str(images), "--weights", str(weights)]
        words = ["--recipe", str(RECIPE), "--model", "resnet50", *common]
        ours = run_ours(words, Path(scratch) / "ours", args.seeds)
        theirs = run_torch([*common, "--stretch", "--epochs", "5", "3", "--lr", "0.003", "0.001"])
    print(f"        resnet_np: {ours}")
    print(f"        PyTorch:   {theirs}")
    low, high = min(theirs.accuracy), max(theirs.accuracy)
    passed = show(
        "right answers on 1,000 test images, means",
        f"{ours.mean:.1%} ({len(args.seeds)} seeds); PyTorch {theirs.mean:.1%}, {low:.1%} to "
        f"{high:.1%} ({len(SEEDS)} seeds)",
        "at least PyTorch's lowest",
        ours.mean >= low,
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
