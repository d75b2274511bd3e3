"""Make source_files/: networks of few channels as the real frameworks save them, and their logits.

    KERAS_BACKEND=torch python tests/golden/make_source_files.py

`<source>_<format>.tar.gz` holds the file or folder that the framework wrote; `expected.json` says
for each which variant the network is, and what has to be found out about it (the facts of
tests/imported.py); `logits.npz` holds what the framework computes on the images of `noise`. The
networks are those of tests/compare/sources.py with one 32nd of the channels. What is not here is in
torch_files/, keras3_*.weights.h5 and keras_legacy_*.h5.
"""

import gzip
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path += [str(HERE.parent), str(HERE.parent / "compare")]
from imported import noise  # noqa: E402
from sources import SOURCES, expected_facts  # noqa: E402

FOLDER = HERE / "source_files"
NARROW = 32
SIZE = 64
IMAGES = 2

CELLS = {
    "torchvision ResNet-18": ("zip", "legacy", "tar", "safetensors", "npz"),
    "torchvision ResNet-50": ("zip",),
    "timm resnet18": ("safetensors",),
    "checkpoint: DataParallel": ("legacy",),
    "checkpoint: module.backbone.": ("zip",),
    "transformers ResNet-18": ("folder",),
    "transformers ResNet-50 v1": ("folder",),
    "Keras ResNet50": ("h5", "weights.h5", "keras"),
    "Keras ResNet50 in a Sequential, frozen": ("h5", "keras"),
}


def pack(path: Path, packed: Path) -> None:
    """A file or a folder, without anything about the machine or the time."""

    def nameless(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime = info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with (
        open(packed, "wb") as file,
        gzip.GzipFile("", "wb", mtime=0, fileobj=file) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        tar.add(path, "file", filter=nameless)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    expected, logits = {}, {}
    for name, formats in CELLS.items():
        source = SOURCES[name](SIZE, NARROW)
        logits[name] = source.run(noise(IMAGES, SIZE))
        for format in formats:
            cell = re.sub(r"\W+", "_", f"{name} {format}").lower()
            with tempfile.TemporaryDirectory() as folder:
                pack(source.save[format](Path(folder)), FOLDER / f"{cell}.tar.gz")
            expected[cell] = {
                "logits": name,
                "network": source.variant,
                "facts": expected_facts(source, format),
            }
    lines = [f"{json.dumps(cell)}: {json.dumps(entry)}" for cell, entry in expected.items()]
    (FOLDER / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    np.savez(FOLDER / "logits.npz", **logits)


main()
