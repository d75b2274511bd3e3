"""Make torch_files/: small PyTorch files in each layout, and the hashes of what is in them.

    python tests/golden/make_torch_files.py

`*.pth` and `hashes.json`: {file: {tensor: [dtype, shape, sha256 of its numbers in C order]}}, as
`torch.load` reads them. PyTorch writes the zip and the legacy stream; the tar it only reads by now,
so `write_tar` follows what the first versions wrote. The published files in the folder that
RESNET_NP_TEST_DATA names are hashed, too.
"""

import hashlib
import io
import json
import os
import pickle
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
FOLDER = HERE / "torch_files"
PUBLISHED = ("resnet20-12fca82f.th", "resnet20_zip.pth")


def tensors() -> dict[str, Any]:
    """One of each kind that a state dict may hold, and two views of one storage."""
    shared = torch.arange(24, dtype=torch.float32)
    return {
        "conv.weight": torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2),
        "strided": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.tensor([0.5, -2.0])),
        "whole": shared.reshape(4, 6),
        "part": shared.reshape(4, 6)[1:3, ::2],
        "turned": shared.reshape(4, 6).t(),
        "double": torch.tensor([1e300, -0.0], dtype=torch.float64),
        "half": torch.tensor([1.5, 65504.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -3e38, float("inf")], dtype=torch.bfloat16),
        "bn.num_batches_tracked": torch.tensor(7),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "truth": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
    }


def checkpoint() -> dict[str, Any]:
    """What a training script saves: weights of a layer, an optimizer, numbers and texts."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in layer.state_dict().items()}
    return {"epoch": 3, "arch": "tiny", "best": 71.5, "state_dict": state,
            "optimizer": optimizer.state_dict(), "lr": [0.1, 0.01]}  # fmt: skip


def write_tar(path: Path, state: dict[str, torch.Tensor]) -> None:
    """What `torch.save` wrote in 2016 and 2017, and `torch.load` still reads."""
    stored, described = io.BytesIO(), io.BytesIO()
    keys: dict[int, int] = {}  # address of a storage -> its key
    runs = {t.untyped_storage().data_ptr(): t.detach() for t in state.values()}
    pickle.dump(len(runs), stored, 2)
    for key, (address, tensor) in enumerate(runs.items(), start=1000):
        keys[address] = key
        run = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        kind = getattr(torch, tensor.type().removeprefix("torch.").replace("Tensor", "Storage"))
        pickle.dump((key, "cpu", kind), stored, 2)
        stored.write(struct.pack("<q", len(run)) + run.numpy().tobytes())
    pickle.dump([], stored, 2)
    pickle.dump(len(state), described, 2)
    for key, tensor in enumerate(state.values(), start=2000):
        kind = getattr(torch, tensor.type().removeprefix("torch."))
        pickle.dump((key, keys[tensor.untyped_storage().data_ptr()], kind), described, 2)
        n = tensor.dim()
        numbers = (*tensor.shape, *tensor.stride(), tensor.storage_offset())
        described.write(struct.pack(f"<i4x{2 * n + 1}q", n, *numbers))
    order = {id(t): key for key, t in enumerate(state.values(), start=2000)}
    pickled = io.BytesIO()

    class ByKey(pickle.Pickler):
        def persistent_id(self, obj: Any) -> str | None:
            return str(order[id(obj)]) if id(obj) in order else None

    ByKey(pickled, 2).dump(state)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (
            ("sys_info", pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)),
            ("pickle", pickled.getvalue()),
            ("tensors", described.getvalue()),
            ("storages", stored.getvalue()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1.5  # type: ignore[assignment]  # a fraction, as files have: one more header
            tar.addfile(info, io.BytesIO(data))


def hashes(path: Path) -> dict[str, tuple[str, list[int], str]]:
    saved = torch.load(path, map_location="cpu", weights_only=False)
    return {name: digest(as_numpy(t)) for name, t in saved.get("state_dict", saved).items()}


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def digest(array: np.ndarray) -> tuple[str, list[int], str]:
    return array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()


def main() -> None:
    if not (data := os.environ.get("RESNET_NP_TEST_DATA")):
        sys.exit("set RESNET_NP_TEST_DATA: the published files there are hashed, too")
    FOLDER.mkdir(exist_ok=True)
    torch.save(tensors(), FOLDER / "zip.pth")
    torch.save(tensors(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    small = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor(3)}
    torch.save(small, FOLDER / "small_zip.pth")
    torch.save(small, FOLDER / "small_legacy.pth", _use_new_zipfile_serialization=False)
    # The types that there were then; parameters were saved as tensors.
    old = {n: t.detach() for n, t in tensors().items() if n not in ("brain", "truth", "empty")}
    write_tar(FOLDER / "tar.pth", old)
    torch.save(checkpoint(), FOLDER / "checkpoint.pth")
    paths = sorted(FOLDER.glob("*.pth"))
    paths += [Path(data) / "formats" / name for name in PUBLISHED]
    lines = [f'"{p.name}": {json.dumps(hashes(p))}' for p in paths]
    (FOLDER / "hashes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
