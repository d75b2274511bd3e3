"""Does prediction gain from a second core as much as this machine's own matrix product does?

    python benchmarks/acceptance/18_scaling.py [--json FILE] [--repetitions N] [--batch N]

ResNet-50, 224 pixels, batch 8, and NumPy's matrix product, each with one thread on one core and
with two on two, all four in turns. A few minutes. Exits with 1 if it is missed.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))
from _common import save_json
from _material import make_material
from _showing import at_least
from _whole_model import parse_whole_model, whole_model_parser
from _workers import Job, take_turns

ASKED = 0.95
GEMM_SIZE = 2048


def main() -> int:
    parser = whole_model_parser(__doc__.splitlines()[0], batches=[8])
    args, facts = parse_whole_model(parser)
    passed, rows = [], []
    for batch in args.batch:
        with tempfile.TemporaryDirectory() as folder:
            material = make_material(Path(folder), batch)
            jobs = {}
            for threads in (1, 2):
                jobs[f"{threads}"] = Job("resnet_np", "inference", batch, material, threads)
                jobs[f"gemm {threads}"] = Job("resnet_np", "gemm", GEMM_SIZE, material, threads)
            times = {name: one.times for name, one in take_turns(jobs, args.repetitions).items()}
        ours = median(times["1"]) / median(times["2"])
        gemm = median(times["gemm 1"]) / median(times["gemm 2"])
        note = f" (ours {ours:.2f}, matrix product {gemm:.2f})"
        what = f"batch {batch}, share of the matrix product's gain from a second core"
        passed.append(at_least(what, ours / gemm, ASKED, note=note))
        rows.append({"batch": batch, "ours": ours, "gemm": gemm, "times": times})
    save_json(args, facts, rows)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
