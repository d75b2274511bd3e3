"""Is an image prepared here as the frameworks prepare it?

    RESNET_NP_TEST_DATA=... KERAS_BACKEND=torch python benchmarks/acceptance/11_preprocessing.py

20 photographs go through each contract and each interpolation, and through the transforms of
torchvision, Keras and Hugging Face themselves. A line shows the largest difference in steps of 8
bits before normalisation, the share of numbers that differ, the mean difference, and the largest
difference of the network's input. One step is allowed; but some frameworks have two ways that
differ by more from each other. Ours equals the one through Pillow, and the other may differ as
far as is noted. Exits with 1 if anything is out of bounds. A minute or two.
"""

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))
from preprocessing import Comparison, compare, comparisons, photographs


def line(comparison: Comparison, paths: list[Path]) -> tuple[str, bool]:
    found = [compare(comparison, path) for path in paths]
    largest = max(difference.largest for difference in found)
    share = np.mean([difference.share for difference in found])
    mean = np.mean([difference.mean for difference in found])
    normalised = max(difference.normalised for difference in found)
    good = bool(largest <= comparison.allowed)
    note = f"  (its own two ways differ: {comparison.allowed})" if comparison.allowed > 1 else ""
    text = f"{comparison!s:62} {largest:5.0f} {share:8.3%} {mean:8.5f} {normalised:8.1e}{note}"
    return text if good else f"{text}  OUT OF BOUNDS", good


def main() -> int:
    paths = photographs(Path(os.environ["RESNET_NP_TEST_DATA"]))
    print(f"{len(paths)} photographs")
    print(f"{'contract, interpolation, framework':62} steps    share     mean    input")
    failed = False
    for comparison in comparisons():
        text, good = line(comparison, paths)
        print(text, flush=True)
        failed |= not good
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
