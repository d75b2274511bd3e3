"""Write weights so that other programs can use them: the ending of the path says for which.

.npz, .safetensors     torchvision's names and layout, for NumPy and for anything
.pth, .pt              the same as torch.save writes it, for torchvision and timm
.weights.h5            Keras 3 (v1)
.onnx                  onnxruntime and its kin
a folder               Hugging Face transformers
"""

import os
from collections.abc import Callable
from pathlib import PurePath

from resnet_np.errors import UserError
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.tensors_writing import write_npz

Writer = Callable[[str, WeightFile], list[str]]

WRITERS: dict[str, Writer] = {
    ".npz": write_npz,
}
"""The endings, and what writes such files. A writer returns what it had to adapt, in sentences."""


def write(path: str | os.PathLike[str], file: WeightFile) -> list[str]:
    """Write weights in the format that the ending of `path` names; see above.

    The variant, the epsilon, the input contract and the class names go along, where `read` finds
    them again. Nothing is left behind if it fails, and an older file stays as it was.

    Returns one sentence for everything that had to be adapted to the format.

    Raises UserError for an ending that is not known, for weights that the format cannot hold, and
    if the file cannot be written.
    """
    return _writer(path)(os.fspath(path), file)


def _writer(path: str | os.PathLike[str]) -> Writer:
    name = PurePath(path).name.lower()
    for ending, writer in WRITERS.items():
        if name.endswith(ending):
            return writer
    raise UserError(f"{path}: no known format ends so; known are {', '.join(WRITERS)}")
