"""Files in, named arrays out, and back: knows no tensors and no models.

    read                a weight file -> WeightFile: torchvision's names, our layout, and the facts
                        that have to be known to use them
    write               a WeightFile -> a file of the format that the path's ending names
    save_npz, read_npz  named arrays and a JSON record, as checkpoints keep them
    read_torch          any tensors in a PyTorch file, under their own names
    Contract            the input that a set of weights expects
    registry, download  published files: what is known of each, and how to get them

Reading order: contract.py, plausible.py (batches that contradict it), names.py, layout.py, file.py,
facts.py, registry.py (the table itself is registry.toml), download.py, reading.py, writing.py and
what it needs, adapt.py and structure.py; then formats/, a module or a few for each, of which those
that write end in `_writing`. tensors.py is for all formats of PyTorch's world: npz.py,
safetensors_file.py, and torch_stand_ins.py, torch_pickle.py, torch_state.py, torch_tar.py,
torch_file.py. The command `python -m resnet_np.weights` is __main__.py, inspecting.py, commands.py
and locating.py.
"""

from resnet_np.weights.contract import (
    HUGGINGFACE,
    KERAS_CAFFE,
    PLAIN,
    TORCHVISION,
    TORCHVISION_V2,
    Contract,
)
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.npz import has_record, read_npz, save_npz
from resnet_np.weights.formats.torch_file import read_torch
from resnet_np.weights.reading import read
from resnet_np.weights.writing import write

__all__ = [
    "HUGGINGFACE",
    "KERAS_CAFFE",
    "PLAIN",
    "TORCHVISION",
    "TORCHVISION_V2",
    "Contract",
    "WeightFile",
    "has_record",
    "read",
    "read_npz",
    "read_torch",
    "save_npz",
    "write",
]
