"""Is an image prepared here as the frameworks prepare it?

    RESNET_NP_TEST_DATA=... KERAS_BACKEND=torch python benchmarks/acceptance/11_preprocessing.py

20 photographs go through each contract and each interpolation, and through the transforms of
torchvision, Keras and Hugging Face themselves. A line shows the largest difference in steps of 8
bits before normalisation, the share of numbers that differ, the mean difference, and the largest
difference of the network's input. One step is allowed; but some frameworks have two ways that
differ by more from each other. Ours equals the one through Pillow, and the other may differ as
far as is noted.

Then each photograph is prepared in wrong ways, and the table shows how many of the 20 were refused,
warned of, or taken. Those prepared right must all be taken, and where bytes, a mean colour or a
second normalisation is put in place of something else, all must be refused.

Exits with 1 if anything is out of bounds. A minute or two.
"""

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "weights"))
from mistakes import CASES, CONTRACTS, MISTAKES, verdict
from preprocessing import Comparison, compare, comparisons, photographs

from resnet_np.data.images import load_image
from resnet_np.weights import TORCHVISION

# A batch of these may be an image under the other contract, if an unlikely one.
WARNED = {("torchvision", "0..1"), ("torchvision", "-1..1"), ("-1..1", "0..1")}


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


def mistakes(paths: list[Path]) -> bool:
    """How many photographs are refused that were prepared for another contract, or twice."""
    batches = [load_image(path, TORCHVISION, 224)[None] for path in paths]
    print(f"\n{'contract':14} {'given images prepared as':28} refused  warned   taken")
    good = True
    for name, mistake in CASES:
        found = [verdict(CONTRACTS[name], MISTAKES[mistake](batch)) for batch in batches]
        counts = [found.count(kind) for kind in ("refused", "warned", "silent")]
        due = "silent" if name == mistake else "warned" if (name, mistake) in WARNED else "refused"
        right = found == [due] * len(batches)
        note = "" if right else f"  OUT OF BOUNDS: {due}"
        print(f"{name:14} {mistake:28} {counts[0]:7} {counts[1]:7} {counts[2]:7}{note}")
        good = good and right
    return good


def main() -> int:
    paths = photographs(Path(os.environ["RESNET_NP_TEST_DATA"]))
    print(f"{len(paths)} photographs")
    print(f"{'contract, interpolation, framework':62} steps    share     mean    input")
    failed = False
    for comparison in comparisons():
        text, good = line(comparison, paths)
        print(text, flush=True)
        failed |= not good
    return int(failed | (not mistakes(paths)))


if __name__ == "__main__":
    sys.exit(main())
