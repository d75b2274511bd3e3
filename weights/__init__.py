"""Files in, named arrays out, and back: knows no tensors and no models.

    read                a weight file -> WeightFile: torchvision's names, our layout, and the facts
                        that have to be known to use them
    write               a WeightFile -> a file of the format that the path's ending names
    save_npz, read_npz  named arrays and a JSON record, as checkpoints keep them
    read_torch          any tensors in a PyTorch file, under their own names
    Contract            the input that a set of weights expects
    registry, download  published files: what is known of each, and how to get them

Reading order:

    contract.py     what a set of weights expects of its input
    plausible.py    batches of images that contradict it
    names.py        which name means which layer, here and in other libraries
    layout.py       kernels and matrices, laid out as here and as in PyTorch
    file.py         what a weight file holds
    facts.py        what no tensor shows, as a text that goes along with the tensors
    reading.py      read a file of any format, and check it
    writing.py      write one
    structure.py    the network that names and shapes tell of
    adapt.py        another epsilon, with or without biases: the same function
    atomic.py       a file is there whole or not at all
    registry.py     the published files, from the table registry.toml
    cache.py        where they are kept, and whether they are there
    download.py     fetch them into it

    __main__.py     the command `python -m resnet_np.weights`
    locating.py     what the user names: a file, a folder or published weights
    inspecting.py   show what a file is and what is in it
    commands.py     convert, verify, list

    formats/        files in, what was found in them out, and back
        zip_entries.py, json_text.py    zips and JSON from strangers, within bounds
        tensors.py                      names and layouts of PyTorch's world, whatever the format
        tensors_writing.py              and back
        npy_header.py, npz.py           .npz, which our checkpoints are, too
        safetensors_file.py             .safetensors
        torch_stand_ins.py, torch_pickle.py, torch_state.py, torch_tar.py, torch_file.py
                                        .pth: a pickle that is looked at and never run
        torch_writing.py                and back
        hdf5.py, hdf5_child.py          HDF5, parsed by a process of its own
        keras_config.py, keras_nameless.py, keras.py, keras_zip.py
                                        .h5, .weights.h5 and .keras
        keras_writing.py                .weights.h5
        huggingface_images.py, huggingface.py
                                        a folder of transformers
        huggingface_writing.py          and back
        onnx_graph.py, onnx_writing.py  .onnx, which is written only
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
