"""Each example of `examples/` from its data to its figures, as its README says.

    python benchmarks/acceptance/22_examples.py [DATA] [--only NAME...] [--keep FOLDER]

DATA is the folder of real weights and images (default: RESNET_NP_TEST_DATA). Half an hour on 2
cores. FOLDER keeps what the runs leave: reports, curves, predictions. Each must end well, and reach
the accuracy on its test images that its README says, but for chance: three points are allowed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _samples import SIGNS, WEIGHTS, cut_cifar, find_data
from _showing import show

EXAMPLES = Path(__file__).parents[2] / "examples"
ALLOWED = 0.03
# Example -> what is typed besides its recipe, or besides its program's name.
RECIPES = {
    "cifar_head": [],
    "cifar_finetune": ["--recalibrate"],  # these weights' statistics are folded away
    "sketches": [],
    "signs": [],
}
PROGRAMS = {"by_hand": ["--epochs", "20"], "alexnet": ["--epochs", "20"]}
SAID = re.compile(r"\*\*([0-9.]+)\s+%\*\*\s+of\s+the\s+test\s+images")  # in a README


def make_data(name: str, data: Path, folder: Path) -> Path:
    """The images of an example, made in `folder` where they do not lie in `data`."""
    if name.startswith("cifar"):
        return folder / "cifar" if (folder / "cifar").exists() else cut_cifar(data, folder)
    if name == "sketches":
        run([str(EXAMPLES / name / "draw.py"), name], folder)
        return folder / name
    return data / SIGNS


def run_recipe(name: str, images: Path, weights: Path, folder: Path) -> float:
    """The share of right answers on the test images."""
    words = ["--recipe", str(EXAMPLES / name / "recipe.toml"), "--data", str(images)]
    words += ["--weights", str(weights), "--model", "resnet50", *RECIPES[name]]
    run(["-m", "resnet_np.finetune", *words, "--out", str(folder)], folder.parent)
    record = json.loads((folder / "history.json").read_text())
    return record["figures"]["test"]["accuracy"]


def run_program(name: str, images: Path, folder: Path) -> float:
    """The same, of an example that is a program."""
    words = ["--data", str(images), *PROGRAMS[name], "--out", f"{name}.npz"]
    printed = run([str(EXAMPLES / name / "train.py"), *words], folder.parent)
    found = re.search(r"([0-9.]+)% of test images right", printed)
    assert found is not None, printed
    return float(found[1]) / 100


def run(words: list[str], folder: Path) -> str:
    """What Python printed; ends this script, too, if it fails."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\nstatus {done.returncode}\n{done.stderr}")
    return done.stdout


def judge(name: str, images: Path, weights: Path, folder: Path) -> bool:
    """Run it and compare with what its README says."""
    began = time.perf_counter()
    if name in RECIPES:
        accuracy = run_recipe(name, images, weights, folder)
    else:
        accuracy = run_program(name, images, folder)
    minutes = (time.perf_counter() - began) / 60
    found = SAID.search((EXAMPLES / name / "README.md").read_text())
    if found is None:
        sys.exit(f"{name}: its README names no figure")
    said = float(found[1]) / 100
    measured = f"{accuracy:.1%} of the test images right, {minutes:.1f} minutes"
    return show(name, measured, f"at least {said - ALLOWED:.1%}", accuracy >= said - ALLOWED)


def main() -> int:
    names = [*RECIPES, *PROGRAMS]
    parser = argparse.ArgumentParser(description="Each example, from its data to its figures.")
    parser.add_argument("data", nargs="?", default=os.environ.get("RESNET_NP_TEST_DATA", ""))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these examples")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for what the runs leave")
    args = parser.parse_args()
    data = find_data(args.data)
    if data is None:
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        kept = (args.keep or Path(scratch) / "runs").resolve()
        kept.mkdir(parents=True, exist_ok=True)
        weights = data / WEIGHTS
        passed = []
        for name in args.only:
            images = make_data(name, data, Path(scratch))
            passed.append(judge(name, images, weights, kept / name))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
