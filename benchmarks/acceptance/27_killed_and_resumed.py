"""A run that is killed ten times, at random moments, ends with the same parameters, to the bit.

    python benchmarks/acceptance/27_killed_and_resumed.py [--kills N] [--seed N]

Fine-tunes on the handwritten digits with all that has a state: two phases, transforms, dropout,
batch norm, Adam, steps of two batches, averaged weights, a schedule, the best weights kept. Once
without a break; once killed (SIGKILL, which no program can see coming) again and again, from the
moment on when it has written its first checkpoint, and each time resumed. Five minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _showing import show

from resnet_np.training.checkpoint import Checkpoint, load_checkpoint
from resnet_np.training.folder import BEST, CHECKPOINT

OPTIONS = [
    "--phase", "unfreeze=fc; epochs=2",
    "--phase", "unfreeze=layer4; epochs=4; schedule=OneCycle",
    "--augment", "KerasAffine(rotation_range=15, zoom_range=0.1), MixUp(0.2)",
    "--dropout", "0.3", "--head", "32", "--accumulate", "2", "--ema", "0.99", "--keep", "best",
    "--class-weights", "balanced", "--label-smoothing", "0.1", "--clip", "1",
]  # fmt: skip
FINETUNE = [sys.executable, "-m", "resnet_np.finetune"]


def run_to_the_end(words: list[str]) -> None:
    subprocess.run([*FINETUNE, *words], check=True, stdout=subprocess.DEVNULL)


def run_until_killed(words: list[str], checkpoint: Path, delay: float) -> bool:
    """Kill it `delay` seconds after it first wrote a checkpoint; whether it still ran then."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = subprocess.Popen([*FINETUNE, *words], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            break
        time.sleep(0.01)
    time.sleep(delay)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def place(checkpoint: Checkpoint) -> str:
    """Where a checkpoint stands."""
    record = checkpoint.record
    return (
        f"phase {record['phase'] + 1}, epoch {record['epoch'] + 1}, batch {record['fit']['batch']}"
    )


def differences(ours: Checkpoint, theirs: Checkpoint) -> list[str]:
    """Names of all that is not the same, to the bit; times are."""
    found = []
    for part in ("model", "trained", "optimizer"):
        a, b = getattr(ours, part), getattr(theirs, part)
        names = a.keys() | b.keys()
        found += [f"{part}/{n}" for n in names if n not in a or n not in b
                  or a[n].tobytes() != b[n].tobytes()]  # fmt: skip
    timeless = [
        json.dumps([{k: v for k, v in entry.items() if k not in ("seconds", "waiting")}
                    for entry in checkpoint.record["history"]])
        for checkpoint in (ours, theirs)
    ]  # fmt: skip
    found += ["history"] if timeless[0] != timeless[1] else []
    same_random = ours.record["random"] == theirs.record["random"]
    return found if same_random else [*found, "random"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Killed, resumed, and the same in the end.")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        often = ["--save-every", "0.2"]
        began = time.monotonic()
        run_to_the_end([*OPTIONS, *often, "--out", "whole"])
        seconds = time.monotonic() - began
        print(f"without a break: {seconds:.0f} s", flush=True)
        checkpoint = Path("killed") / CHECKPOINT
        words, kills, places = [*OPTIONS, *often, "--out", "killed"], 0, set()
        while kills < arguments.kills:
            if not run_until_killed(words, checkpoint, rng.uniform(0, seconds / 8)):
                print("was at its end before it could be killed")
                break
            kills += 1
            places.add(place(load_checkpoint(checkpoint, to_go_on=True)))
            print(f"kill {kills}: goes on from {place(load_checkpoint(checkpoint))}", flush=True)
            words = ["--resume", str(checkpoint), *often, "--out", "killed"]
        run_to_the_end(words)
        passed = show("kills", f"{kills}, at {len(places)} places", f"{arguments.kills}",
                      kills == arguments.kills)  # fmt: skip
        for name in (CHECKPOINT, BEST):
            whole, killed = (load_checkpoint(Path(f) / name, True) for f in ("whole", "killed"))
            found = differences(whole, killed)
            said = f"{len(whole.model)} arrays of the network; " + (
                f"differ: {', '.join(sorted(found)[:5])}" if found else "all the same bits"
            )
            passed &= show(f"{name} against that of the run without a break", said, "the same bits",
                           not found)  # fmt: skip
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
