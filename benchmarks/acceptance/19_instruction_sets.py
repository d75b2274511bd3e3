"""Do the kernels suit the processor that Numba is told of, and not the one that they run on?

    python benchmarks/acceptance/19_instruction_sets.py

The kernels' tests run as for a processor with AVX2, as for one with nothing but SSE2, and without
compiling. The machine code of a small network's prediction and training step is searched for
registers that these do not have. For AVX-512 two convolutions are compiled, which works on any
x86, and the sums that they hold in registers are counted. Ten minutes or more, most of it
compiling anew. Exits with 1 if anything is missed.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from _showing import show

ROOT = Path(__file__).parents[2]
TESTS = "tests/kernels/cpu"
AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,-avx512f"}
SSE2 = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2,-avx,-avx2,-fma,-avx512f"}
AVX512 = {
    "NUMBA_CPU_NAME": "skylake-avx512",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl",
}
PLAIN = {"NUMBA_DISABLE_JIT": "1"}


def run_tests(name: str, environment: dict[str, str]) -> bool:
    """Whether all pass; the last line of pytest says how many."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"NUMBA_CACHE_DIR": cache} | environment,
            capture_output=True,
            text=True,
        )
    lines = done.stdout.splitlines() or ["nothing"]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"        {line}")
    return show(f"{name}, {TESTS}", lines[-1], "all pass", done.returncode == 0)


def machine_code(what: str, environment: dict[str, str]) -> dict[str, Any] | None:
    """What was compiled, in figures; None if it could not be."""
    program = Path(__file__).with_name("_machine_code.py")
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, str(program), what],
            env=os.environ | {"NUMBA_CACHE_DIR": cache} | environment,
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        said = (done.stderr.splitlines() or ["nothing said"])[-1]
        show(f"machine code to {what}", f"status {done.returncode}: {said}", "is compiled", False)
        return None
    return json.loads(done.stdout)


def show_tile(name: str, found: dict[str, Any], asked: list[int]) -> bool:
    tile = " x ".join(map(str, found["tile"]))
    return show(f"{name}, tile", tile, " x ".join(map(str, asked)), found["tile"] == asked)


def avx2() -> list[bool]:
    found = machine_code("run", AVX2)
    if found is None:
        return [False]
    used = f"{found['zmm']} zmm, {found['ymm']} ymm, {found['multiply_adds']} multiply-adds"
    right = found["zmm"] == 0 and found["ymm"] > 0 and found["multiply_adds"] > 0
    what = f"AVX2, {found['functions']} functions"
    return [
        show_tile("AVX2", found, [6, 2, 8]),
        show(what, used, "no zmm, but ymm and multiply-adds", right),
    ]


def sse2() -> list[bool]:
    found = machine_code("run", SSE2)
    if found is None:
        return [False]
    used = f"{found['zmm']} zmm, {found['ymm']} ymm, {found['multiply_adds']} multiply-adds"
    right = found["zmm"] == found["ymm"] == found["multiply_adds"] == 0
    what = f"SSE2, {found['functions']} functions"
    return [show_tile("SSE2", found, [4, 2, 4]), show(what, used, "none of them", right)]


def avx512() -> list[bool]:
    found = machine_code("compile", AVX512)
    if found is None:
        return [False]
    sums = found["zmm_sums"]
    return [
        show_tile("AVX-512, compiled only", found, [12, 2, 16]),
        show("AVX-512, sums held in zmm registers", str(sums), "at least 24", sums >= 24),
    ]


def main() -> int:
    passed = []
    if platform.machine() in ("x86_64", "AMD64"):
        passed += [run_tests("AVX2", AVX2), *avx2()]
        passed += [run_tests("SSE2", SSE2), *sse2()]
        passed += avx512()
    else:
        passed.append(show("instruction sets", platform.machine(), "x86_64", False))
    passed.append(run_tests("NUMBA_DISABLE_JIT=1", PLAIN))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
