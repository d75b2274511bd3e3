"""Is every tensor of the published files what PyTorch, h5py and NumPy read?

    RESNET_NP_TEST_DATA=... python benchmarks/acceptance/09_real_files.py

Compares names, types, shapes and all bytes: PyTorch's files with `torch.load`, HDF5 files, which
are parsed by a process of their own here, with h5py, the `.npz` with `numpy.load`. Exits with 1 if
anything differs. Needs PyTorch (`tests/compare/install.sh`); a few seconds.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from resnet_np.weights import read, read_npz, read_torch
from resnet_np.weights.formats.hdf5 import dump

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from parity import our_layout

Arrays = dict[str, np.ndarray]
Pair = tuple[Callable[[Path], Arrays], Callable[[Path], Arrays]]


def by_torch(path: Path) -> Arrays:
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return {name: t.detach().numpy() for name, t in saved.get("state_dict", saved).items()}


def by_h5py(path: Path) -> Arrays:
    arrays: Arrays = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item[()])

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return arrays


def by_numpy(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


def as_ours(path: Path) -> Arrays:
    """What NumPy reads, in the layout in which `read` hands it out."""
    return {name: our_layout(array) for name, array in by_numpy(path).items()}


TORCH: Pair = (read_torch, by_torch)
HDF5: Pair = (lambda path: dump(path).arrays, by_h5py)
NPZ: Pair = (lambda path: read_npz(path)[0], by_numpy)
WEIGHTS: Pair = (lambda path: read(path).arrays, as_ours)

FILES: list[tuple[str, str, Pair]] = [
    ("formats/resnet20-12fca82f.th", "torch.load", TORCH),
    ("formats/resnet20_zip.pth", "torch.load", TORCH),
    ("formats/mlperf_tiny_resnet8_keras24_model.h5", "h5py", HDF5),
    ("formats/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5", "h5py", HDF5),
    ("weights/resnet50_pqf_large_decoded.npz", "numpy.load", NPZ),
    ("weights/resnet50_pqf_large_decoded.npz", "numpy.load", WEIGHTS),
]


def differences(ours: Arrays, theirs: Arrays) -> Iterator[str]:
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            yield f"{name}: only {'there' if name in theirs else 'here'}"
            continue
        a, b = ours[name], theirs[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            yield f"{name}: {a.dtype} {a.shape} here, {b.dtype} {b.shape} there"
        elif a.tobytes() != b.tobytes():
            yield f"{name}: other numbers"


def main() -> int:
    if not (data := os.environ.get("RESNET_NP_TEST_DATA")):
        sys.exit("set RESNET_NP_TEST_DATA to the folder of real weights and images")
    equal = True
    for name, reader, (here, there) in FILES:
        ours, theirs = here(Path(data, name)), there(Path(data, name))
        found = list(differences(ours, theirs))
        equal = equal and not found and bool(ours)
        numbers = sum(array.size for array in ours.values())
        print(
            f"{name}: {len(ours)} tensors, {numbers:,} numbers; {len(found)} differ from {reader}"
        )
        for line in found:
            print(f"    {line}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
