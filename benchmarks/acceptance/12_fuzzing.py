"""Are damaged weight files read or refused, and nothing else?

    RESNET_NP_TEST_DATA=... python benchmarks/acceptance/12_fuzzing.py [--format npz] [--count N]

Reads mutants of each format (tests/weights/mutants.py), 100,000 by default; 5,000 where HDF5 is
in it, which is read in a child process. Counted as findings are: any exception but a UserError, a
message that is not one line which begins with the file, a warning, something printed, a crash, more
than 10 s, memory over 3 x the file + 2 MiB, a file left behind, and a pickle that was run. One
finding, and the exit status is 1.

    python benchmarks/acceptance/12_fuzzing.py --format npz --mutant 4711 --save FILE

makes one mutant again, keeps it, and says what becomes of it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "weights"))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from fuzzing import Judge, Tally, Task, run
from mutants import FORMATS, IN_A_CHILD, mutant

from resnet_np.command import Parser, count, seed
from resnet_np.errors import UserError, one_line

SHOWN = 20
ROW = "{:>8} {:>8} {:>8} {:>8} {:>9} {:>7} {:>6} {:>7}"


def fuzz(format: str, seed: int, mutants: int, processes: int) -> Tally:
    tally, begin = Tally(), time.perf_counter()
    for number, verdict in run(Task(format, seed), mutants, processes):
        tally.add(verdict)
        if verdict.outcome == "finding" and tally.findings <= SHOWN:
            print(f"  {format} --seed {seed} --mutant {number}: {one_line(verdict.text, 400)}")
    figures = (
        tally.read + tally.refused + tally.findings, tally.read, tally.refused, tally.findings,
        round(tally.slowest, 2), round(tally.share, 2), round(tally.ratio, 2),
        round(time.perf_counter() - begin),
    )  # fmt: skip
    print(f"{format:17} {ROW.format(*figures)}", flush=True)
    return tally


def show(format: str, seed: int, number: int, save: Path | None) -> int:
    """Read one mutant, and keep it."""
    files = mutant(format, seed, number)
    if save is not None:
        save = save.absolute()
        for name, data in files.items():
            (save / name).parent.mkdir(parents=True, exist_ok=True)
            (save / name if name else save).write_bytes(data)
    with tempfile.TemporaryDirectory() as folder:
        verdict = Judge(Path(folder), format).judge(files)
        os.chdir("/")
    print(f"{verdict.outcome}: {verdict.text}")
    print(f"{verdict.seconds:.3f} s, {verdict.peak} bytes of memory for {verdict.held}")
    return int(verdict.outcome == "finding")


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=count, default=100_000, help="mutants of each format")
    parser.add_argument("--hdf5-count", type=count, default=5_000, help="where HDF5 is in it")
    parser.add_argument("--format", choices=FORMATS, action="append", help="only this one")
    parser.add_argument("--seed", type=seed, default=0, help="of the random numbers")
    parser.add_argument("--processes", type=count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--mutant", type=seed, metavar="N", help="only this one, of one --format")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep that one there")
    args = parser.parse_args()
    formats = args.format or FORMATS
    if args.mutant is not None:
        if len(formats) != 1:
            raise UserError("--mutant needs one --format")
        return show(formats[0], args.seed, args.mutant, args.save)
    names = ("mutants", "read", "refused", "findings", "slowest s", "memory", "ratio", "seconds")
    print(f"{'format':17} {ROW.format(*names)}")
    findings = 0
    for format in formats:
        mutants = args.hdf5_count if format in IN_A_CHILD else args.count
        findings += fuzz(format, args.seed, mutants, args.processes).findings
    print("memory: the highest share of 3 x file + 2 MiB; ratio: memory to file, of large files")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
