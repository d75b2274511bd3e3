"""Write weights so that other programs can use them: the ending of the path says which.

    .npz, .safetensors    torchvision's names and layout, for NumPy and for anything
    .pth, .pt             the same as PyTorch saves it, for torchvision and timm
    a folder              Hugging Face transformers

What an ending means stands in WRITERS.
"""

import os
from collections.abc import Callable

from resnet_np.errors import UserError
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.tensors_writing import write_npz, write_pth, write_safetensors

Writer = Callable[[str, WeightFile], list[str]]

WRITERS: dict[str, Writer] = {
    ".npz": write_npz,
    ".safetensors": write_safetensors,
    ".pth": write_pth,
    ".pt": write_pth,
}
"""The endings, and what writes such files. A writer returns what it had to adapt, in sentences."""


def write(path: str | os.PathLike[str], file: WeightFile) -> list[str]:
    """Write weights in the format that the ending of `path` names; without one, to a folder.

    The variant, the epsilon, the input contract and the class names go along, where `read` finds
    them again. Nothing is left behind if it fails, and an older file stays as it was.

    Returns one sentence for everything that had to be adapted to the format.

    Raises UserError for an ending that is not known, for weights that the format cannot hold, and
    if the file cannot be written.
    """
    return _writer(os.fspath(path))(os.fspath(path), file)


def _writer(path: str) -> Writer:
    for ending, writer in WRITERS.items():
        if path.lower().endswith(ending):
            return writer
    raise UserError(f"{path}: no known format ends so; known are {', '.join(WRITERS)}")
