"""Write weights so that other programs can use them: the ending of the path says which.

    .npz, .safetensors    torchvision's names and layout, for NumPy and for anything
    .pth, .pt             the same as PyTorch saves it, for torchvision and timm
    .weights.h5           Keras 3 (v1 only)
    .onnx                 a graph with its weights, for onnxruntime and its like
    a folder              Hugging Face transformers

What an ending means stands in WRITERS.
"""

import os
from collections.abc import Callable

from resnet_np.errors import UserError
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.huggingface_writing import write_folder
from resnet_np.weights.formats.keras_writing import write_keras
from resnet_np.weights.formats.onnx_writing import write_onnx
from resnet_np.weights.formats.tensors_writing import write_npz, write_pth, write_safetensors

Writer = Callable[[str, WeightFile], list[str]]

WRITERS: dict[str, Writer] = {
    ".npz": write_npz,
    ".safetensors": write_safetensors,
    ".pth": write_pth,
    ".pt": write_pth,
    ".weights.h5": write_keras,
    ".onnx": write_onnx,
}
"""The endings, and what writes such files. A writer returns what it had to adapt, in sentences."""


def write(path: str | os.PathLike[str], file: WeightFile, fold: bool = False) -> list[str]:
    """Write weights in the format that the ending of `path` names; without one, to a folder.

    The variant, the epsilon, the input contract and the class names go along, where `read` finds
    them again. Nothing is left behind if it fails, and an older file stays as it was.

    fold: multiply each batch norm into its convolution; in .onnx only.

    Returns one sentence for everything that had to be adapted to the format.

    Raises UserError for an ending that is not known, for weights that the format cannot hold, and
    if the file cannot be written.
    """
    path = os.fspath(path)
    writer = _writer(path)
    if not fold:
        return writer(path, file)
    if writer is not write_onnx:
        raise UserError(f"{path}: batch norm can be folded into convolutions in .onnx only")
    return write_onnx(path, file, fold=True)


def _writer(path: str) -> Writer:
    for ending, writer in WRITERS.items():
        if path.lower().endswith(ending):
            return writer
    # os.path.basename is empty behind a trailing slash, and so is the ending of a bare name.
    if not os.path.splitext(os.path.basename(path))[1] or os.path.isdir(path):
        return write_folder
    raise UserError(
        f"{path}: no known format ends so; known are {', '.join(WRITERS)}, and for Hugging Face's"
        " a folder, written without an ending or with / behind it"
    )
