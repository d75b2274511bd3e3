"""How long until the first answer: importing, and predicting with an empty and a full cache?

    python benchmarks/acceptance/17_cold_start.py [--repetitions N]

Everything in fresh processes: `import resnet_np`, which must not load numba; then the first
prediction of a ResNet-50 for one image of 224 pixels, with a new folder for compiled kernels, which
must say that it is compiling, and again with what was compiled, which must not. The prediction's
time is that of its first call, Numba's import in it; the whole program's stands beside it. Medians.
A minute or two. Exits with 1 if anything is missed.
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
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from _showing import at_most, show

IMPORT, WARM, EMPTY = 0.5, 2.0, 25.0  # seconds

IMPORTING = """
import json, sys, time
began = time.perf_counter()
import resnet_np
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "numba": "numba" in sys.modules}))
"""
PREDICTING = """
import json, time
import numpy as np
import resnet_np as rnp
model = rnp.resnet50().eval()
image = rnp.Tensor(np.random.default_rng(0).standard_normal((1, 224, 224, 3), np.float32))
began = time.perf_counter()
with rnp.no_grad():
    model(image).numpy()
print(json.dumps({"seconds": time.perf_counter() - began}))
"""


def run(program: str, cache: str) -> dict[str, Any]:
    """What the program found; how long it took with Python's start; what it said on stderr."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        check=True,
        capture_output=True,
        text=True,
    )
    whole = time.perf_counter() - began
    return json.loads(done.stdout) | {"whole": whole, "said": done.stderr}


def medians(runs: list[dict[str, Any]]) -> tuple[float, str]:
    """Seconds, and a note with those of the whole program."""
    whole = median(run["whole"] for run in runs)
    return median(run["seconds"] for run in runs), f", {whole:.2f} s with all of the program"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    rounds = range(parser.parse_args().repetitions)
    imports, empty, warm = [], [], []
    for _ in rounds:
        with tempfile.TemporaryDirectory() as cache:
            imports.append(run(IMPORTING, cache))
            empty.append(run(PREDICTING, cache))
            warm.append(run(PREDICTING, cache))
    seconds, note = medians(imports)
    passed = [at_most("import resnet_np", seconds, IMPORT, " s", note)]
    loaded = any(run["numba"] for run in imports)
    passed.append(show("import resnet_np", f"{loaded}", "numba loaded: False", not loaded))
    for what, runs, asked in (("full", warm, WARM), ("empty", empty, EMPTY)):
        seconds, note = medians(runs)
        passed.append(at_most(f"first prediction, cache {what}", seconds, asked, " s", note))
    for what, runs, due in (("full", warm, False), ("empty", empty, True)):
        said = [run for run in runs if "compiling" in run["said"]]
        measured, asked = f"in {len(said)} of {len(runs)} runs", "in all" if due else "in none"
        right = len(said) == (len(runs) if due else 0)
        passed.append(show(f"says that it is compiling, cache {what}", measured, asked, right))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
