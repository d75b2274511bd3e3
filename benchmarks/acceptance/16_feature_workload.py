"""Fine-tuning a new head on 1,000 images, from files on disk to the final accuracy, and PyTorch's.

    python benchmarks/acceptance/16_feature_workload.py [DATA] [--epochs N] [--repetitions N]

DATA is the folder of real weights and images (default: RESNET_NP_TEST_DATA). 1,000 JPEGs, 700 to
train on, 100 to validate and 200 to test, are cut from trashnet's photographs, no photograph in two
parts. Then, each program in a process of its own, 10 epochs with a frozen trunk, in turns:

    python -m resnet_np.finetune
    python benchmarks/torch_finetune.py, in its default layout and with its channels last, which run
    the network in every epoch, and with channels last and a cache of features as ours has

Times are whole programs', after each has run once on a few images. An hour or two: PyTorch's runs
are all done to their end. Exits with 1 if a ratio is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parents[1]))
from _common import cores, machine
from _material import REAL_WEIGHTS
from _showing import at_least, show

BENCHMARKS = Path(__file__).parents[1]
PARTS = {"train": 700, "val": 100, "test": 200}
FEW = {"train": 24, "val": 12, "test": 12}
VALIDATION = 5  # photographs of each class that are kept for it
SIZE = (512, 384)
TORCH = {
    "torch": [],
    "torch, channels last": ["--channels-last"],
    "torch, channels last, cached": ["--channels-last", "--cache"],
}
ASKED = {"torch": 15.0, "torch, channels last": 8.0}


def make_images(photographs: Path, folder: Path, counts: dict[str, int]) -> Path:
    """So many JPEGs for each part below `folder`, the classes equally often."""
    rng = np.random.default_rng(0)
    classes = sorted(path.name for path in (photographs / "train").iterdir() if path.is_dir())
    for part, count in counts.items():
        for i in range(count):
            name = classes[i % len(classes)]
            sources = sources_of(photographs, part, name)
            target = folder / part / name / f"{i:04}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            vary(sources[i // len(classes) % len(sources)], rng).save(target, quality=90)
    return folder


def sources_of(photographs: Path, part: str, name: str) -> list[Path]:
    """The photographs of a class that a part is made of."""
    files = sorted((photographs / ("test" if part == "test" else "train") / name).iterdir())
    return {"train": files[VALIDATION:], "val": files[:VALIDATION], "test": files}[part]


def vary(path: Path, rng: np.random.Generator) -> Image.Image:
    """A part of the photograph, seven tenths of each side or more, sometimes mirrored."""
    photograph = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    share = rng.uniform(0.7, 1)
    width, height = photograph.size
    w, h = round(share * width), round(share * height)
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    cut = photograph.crop((left, top, left + w, top + h)).resize(SIZE, Image.Resampling.BICUBIC)
    return ImageOps.mirror(cut) if rng.random() < 0.5 else cut


def run_ours(data: Path, weights: Path, epochs: int) -> float:
    """The accuracy on the test images."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        arguments = ["--data", str(data), "--weights", str(weights), "--model", "resnet50"]
        arguments += ["--epochs", str(epochs), "--out", str(out)]
        run([sys.executable, "-m", "resnet_np.finetune", *arguments])
        return json.loads((out / "history.json").read_text())["figures"]["test"]["accuracy"]


def run_torch(data: Path, weights: Path, epochs: int, flags: list[str]) -> float:
    """The same from PyTorch."""
    arguments = ["--data", str(data), "--weights", str(weights), "--epochs", str(epochs), *flags]
    output = run([sys.executable, str(BENCHMARKS / "torch_finetune.py"), *arguments])
    return json.loads(output.splitlines()[-1])["accuracy"]


def run(command: list[str]) -> str:
    """What it printed; ends this script, too, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nstatus {done.returncode}\n{done.stderr}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=os.environ.get("RESNET_NP_TEST_DATA", ""))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data, weights = Path(args.data), Path(args.data) / REAL_WEIGHTS
    if not weights.exists():
        print(f"no {REAL_WEIGHTS} in {args.data!r}: give the data folder", file=sys.stderr)
        return 2
    programs = {"resnet_np": run_ours} | {
        name: lambda *a, flags=flags: run_torch(*a, flags) for name, flags in TORCH.items()
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    found: dict[str, float] = {}
    facts = machine("cpu", cores())
    with tempfile.TemporaryDirectory() as scratch:
        trashnet = data / "images" / "trashnet"
        few = make_images(trashnet, Path(scratch) / "few", FEW)
        images = make_images(trashnet, Path(scratch) / "images", PARTS)
        for program in programs.values():
            program(few, weights, 1)
        for _ in range(args.repetitions):
            for name, program in programs.items():
                began = time.perf_counter()
                found[name] = program(images, weights, args.epochs)
                times[name].append(time.perf_counter() - began)
                print(f"{name}: {times[name][-1]:.1f} s, {found[name]:.1%} right", flush=True)
    return report(args, facts, times, found)


def report(
    args: argparse.Namespace,
    facts: dict[str, object],
    times: dict[str, list[float]],
    found: dict[str, float],
) -> int:
    """Print what follows from the times, and save everything."""
    seconds = {name: median(measured) for name, measured in times.items()}
    if args.json:
        record = {"machine": facts, "epochs": args.epochs, "times": times, "accuracy": found}
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{facts['cpu']}, {sum(PARTS.values())} images, {args.epochs} epochs")
    ours = seconds["resnet_np"]
    passed = [at_least(f"{n}, ratio", seconds[n] / ours, asked) for n, asked in ASKED.items()]
    name = "torch, channels last, cached"
    print(f"        {name}, ratio: {seconds[name] / ours:.2f} (nothing asked)")
    listed = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
    near = max(found.values()) - min(found.values()) <= 0.03
    passed.append(show("accuracy on the test images", listed, "at most 3 points apart", near))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
