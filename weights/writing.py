"""Write weights so that other programs can use them: the ending of the path says which.

    .npz, .safetensors    torchvision's names and layout, for NumPy and for anything
    .pth, .pt             the same as PyTorch saves it, for torchvision and timm
    .weights.h5           Keras 3 (v1 only)
    .onnx                 a graph with its weights, for onnxruntime and its like
    a folder              Hugging Face transformers

What an ending means stands in WRITERS.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights import names
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.huggingface_writing import write_folder
from resnet_np.weights.formats.keras_writing import write_keras
from resnet_np.weights.formats.onnx_writing import write_onnx
from resnet_np.weights.formats.tensors_writing import write_npz, write_pth, write_safetensors
from resnet_np.weights.structure import check_whole, pooling_of

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

    One of our checkpoints becomes weights as others know them: for the image size that it was
    trained on, and with a head called `fc` even if there is dropout in front of it.

    fold: multiply each batch norm into its convolution; in .onnx only.

    Returns one sentence for everything that had to be adapted to the format.

    Raises UserError for an ending that is not known, for weights that are no whole network or that
    the format cannot hold, and if the file cannot be written.
    """
    path = os.fspath(path)
    check_whole(file, head=False)  # a head of one's own may follow it
    writer = _writer(path)
    file = _for_others(file)
    if writer is write_onnx:
        return write_onnx(path, file, fold)
    if fold:
        raise UserError(f"{path}: --fold-batch-norm is for .onnx only")
    pooling = pooling_of(file)
    notes = writer(path, file)
    if pooling != "avg":
        notes.append(f"its pooling is {pooling}, which only a checkpoint or .onnx can say")
    return notes


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


def _for_others(file: WeightFile) -> WeightFile:
    """What `write` says of a checkpoint; any other file as it is."""
    if file.record is None:
        return file
    contract = file.contract
    if size := file.record.get("image_size"):
        contract = contract.with_size(size)
    return replace(file, contract=contract, arrays=_with_plain_head(file.arrays))


def _with_plain_head(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if len(names.head_layers(arrays)) > 1:  # hidden layers keep their numbers
        return dict(arrays)
    return {re.sub(r"^fc\.\d+\.", "fc.", name): array for name, array in arrays.items()}
