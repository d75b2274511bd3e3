"""Published files, too large to be here: every tensor as h5py and NumPy read it.

PyTorch's are compared by their hashes in test_torch_files.py.
"""

from pathlib import Path

import h5py
import numpy as np
import pytest

from resnet_np.weights import read_npz
from resnet_np.weights.formats.hdf5 import dump


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("mlperf_tiny_resnet8_keras24_model.h5", 117),
        ("squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5", 50),
    ],
)
def test_hdf5(test_data: Path, name: str, tensors: int) -> None:
    path = test_data / "formats" / name
    arrays = dump(path).arrays
    assert len(arrays) == tensors
    with h5py.File(path, "r") as file:
        there: list[str] = []
        file.visititems(lambda n, item: there.append(n) if isinstance(item, h5py.Dataset) else None)
        assert set(arrays) == set(there)
        for name in there:
            assert same(arrays[name], np.asarray(file[name][()])), name


def test_npz(test_data: Path) -> None:
    path = test_data / "weights" / "resnet50_pqf_large_decoded.npz"
    arrays, record = read_npz(path)
    assert record is None
    with np.load(path) as expected:
        assert set(arrays) == set(expected)
        assert len(arrays) == 267
        for name in expected:
            assert same(arrays[name], expected[name]), name
