"""What all benchmarks share: arguments, the machine, interleaved timing, and the JSON file."""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from _engines import Call
from threadpoolctl import threadpool_info

from resnet_np.command import Parser
from resnet_np.device import DEVICES, require_gpu
from resnet_np.errors import UserError

# After its last job a thread pool spins for a while, in case another one comes at once. The next
# engine waits until the last one's threads sleep, so that neither pays for the other: on 2 cores
# PyTorch's convolutions took two to four times as long for 0.2 seconds after one of ours.
REST_SECONDS = 0.4
# A call that is shorter than this is repeated until it is not, and the time divided.
SHORTEST_MEASUREMENT = 0.01


# --- arguments -----------------------------------------------------------------------------------


def benchmark_parser(description: str, batches: list[int], repetitions: int = 5) -> Parser:
    """The arguments that all benchmarks take."""
    parser = Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=batches, help="images at a time")
    parser.add_argument(
        "--against", default="", metavar="NAME,...", help="measure these engines, too, in turns"
    )
    parser.add_argument(
        "--repetitions", type=int, default=repetitions, help="rounds, of which the median counts"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save all figures there")
    parser.add_argument("--note", default="", help="a remark for the JSON file")
    return parser


def parse(parser: Parser) -> argparse.Namespace:
    """The arguments, once it is known that what they ask for can be had."""
    args = parser.parse_args()
    if min(args.batch) < 1 or args.repetitions < 1:
        raise UserError("--batch and --repetitions must be 1 or more")
    if args.device == "gpu":
        require_gpu()
    return args


# --- timing --------------------------------------------------------------------------------------


def interleaved_times(
    calls: dict[tuple[str, str], tuple[Call, Call]], repetitions: int
) -> dict[tuple[str, str], list[float]]:
    """Seconds of one run of each call, from several rounds in each of which all take their turn.

    A call is known by its engine and its name, and comes with the function that waits until its
    device is done. Machines drift: only times from the same rounds can be compared. Each turn
    begins with a run that is not counted, which wakes the thread pool and fills the caches.
    """
    counts = {key: runs_needed(*call, SHORTEST_MEASUREMENT) for key, call in calls.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    working = ""
    for _ in range(repetitions):
        for key, (call, wait) in calls.items():
            if key[0] != working:
                time.sleep(REST_SECONDS)
                working = key[0]
            run_seconds(call, wait, 1)
            times[key].append(run_seconds(call, wait, counts[key]) / counts[key])
    return times


def runs_needed(call: Call, wait: Call, shortest: float) -> int:
    """How many runs take `shortest` seconds."""
    run_seconds(call, wait, 1)
    return 1 + int(shortest / run_seconds(call, wait, 1))


def run_seconds(call: Call, wait: Call, count: int) -> float:
    """Seconds of `count` runs."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    wait()
    return time.perf_counter() - start


# --- the machine, and the file -------------------------------------------------------------------


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_threads() -> int:
    """Threads of NumPy's matrix product: what every engine gets that shares our process."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max((pool["num_threads"] for pool in pools), default=1)


def machine(device: str, threads: int) -> dict[str, Any]:
    """What has to be known about a machine to read its figures."""
    facts = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": cores(),
        "threads": threads,
        "load_average_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": _versions(),
        "blas": [
            f"{pool['internal_api']} {pool['version']}"
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        ],
    }
    return facts | _card() if device == "gpu" else facts


def _card() -> dict[str, str]:
    """The card, its driver, and the CUDA that CuPy uses."""
    import cupy

    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "gpu": card["name"].decode(),
        "gpu_memory": f"{card['totalGlobalMem'] / 2**30:.0f} GiB",
        "compute_capability": f"{card['major']}.{card['minor']}",
        "driver": _driver_version(),
        "driver_cuda": _cuda_version(runtime.driverGetVersion()),
        "cuda": _cuda_version(runtime.runtimeGetVersion()),
    }


def _cuda_version(number: int) -> str:
    """12090 -> "12.9"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver_version() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown: there is no nvidia-smi"
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.splitlines()
    return said[0] if said else "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def _versions() -> dict[str, str]:
    wanted = ("resnet_np", "numpy", "numba", "llvmlite", "torch", "torchvision", "onnxruntime")
    wanted += ("openvino", "cupy-cuda12x", "cupy-cuda13x", "ml_dtypes", "triton")
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in wanted if name in installed}


def save_json(args: argparse.Namespace, facts: dict[str, Any], results: Any) -> None:
    """Write everything to `--json`, if that was asked for."""
    if args.json is None:
        return
    arguments = {name: value for name, value in vars(args).items() if name not in ("json", "note")}
    record = {"note": args.note, "machine": facts, "arguments": arguments, "results": results}
    args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"saved to {args.json}")
