"""What runs on a GPU is checked without one, and each check sees what is wrong.

    python benchmarks/acceptance/20_checked_without_a_card.py                    # all, 15 minutes
    python benchmarks/acceptance/20_checked_without_a_card.py --only norm.cu     # some mistakes

First all tests that stand in for a GPU: they must pass, and none may be left out for want of a tool
(g++, and NVIDIA's compiler: pip install nvidia-cuda-nvrtc-cu12). Then, one at a time, the mistakes
in tests/kernels/gpu/gpu_mutants.txt: at least one in each kernel, and some in what launches them,
moves arrays, chooses between devices, and says what is wrong. The tests must notice each.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from _showing import show

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "kernels" / "gpu"))
import gpu_mutants

TESTS = (
    "tests/kernels/gpu",
    "tests/kernels/test_signatures.py",
    "tests/test_standin_card.py",
    "tests/autograd/test_mixed_precision.py",
    "tests/autograd/test_steps_on_a_card.py",
    "tests/gradcheck/test_front_door.py",
    "tests/gradcheck/test_ops_on_a_card.py",
    "tests/plan/test_plan_on_a_card.py",
    "tests/data/test_transfer.py",
    "tests/training/test_on_a_card.py",
    "tests/training/test_waits.py",
    "--ignore=tests/kernels/gpu/test_gpu_mutants.py",  # which does some of what is done here
)


def unbroken(compiled: Path) -> bool:
    with gpu_mutants.copy_of_sources(compiled) as folder:
        outcome = gpu_mutants.run_tests(folder, *TESTS, seconds=1800)
    said = f"{outcome.ran} tests, {outcome.skipped} skipped"
    if outcome.failed:
        said = f"{outcome.failed}: {outcome.error}"
    passed = not outcome.failed and outcome.ran > 0 and outcome.skipped == 0
    return show("what runs on a GPU, without one", said, "all pass, none is skipped", passed)


def noticed(todo: Sequence[gpu_mutants.Mutant], compiled: Path) -> bool:
    """Whether all of them are; a few at a time."""
    all_passed, check = True, ""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(partial(gpu_mutants.is_noticed, compiled=compiled), todo)
        for mutant, (passed, seen) in zip(todo, outcomes, strict=True):
            if mutant.check != check:
                check = mutant.check
                print(f"\n{check}\n", flush=True)
            all_passed &= show(f"{mutant.file}: {mutant.what}", seen, "noticed", passed)
    return all_passed


def main() -> int:
    parser = argparse.ArgumentParser(description="The checks that stand in for a GPU, broken.")
    parser.add_argument("--only", help="mistakes in files of this name")
    only = parser.parse_args().only
    todo = [m for m in gpu_mutants.read_mutants() if only is None or only in m.file]
    for mutant in todo:
        gpu_mutants.broken(mutant)  # before the rest takes its time
    os.environ["RESNET_NP_GPU_TOOLS"] = "1"  # a test that is left out for want of one fails
    with TemporaryDirectory() as compiled:
        passed = only is not None or unbroken(Path(compiled))
        passed = noticed(todo, Path(compiled)) and passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
