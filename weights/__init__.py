"""Files in, named arrays out, and back: knows no tensors and no models.

    read                a weight file -> WeightFile: torchvision's names, our layout, and the facts
                        that have to be known to use them
    save_npz, read_npz  named arrays and a JSON record, as checkpoints keep them
    Contract            the input that a set of weights expects

Reading order: contract.py, npz.py, names.py, file.py, tensors.py, keras.py, reading.py.
"""

from resnet_np.weights.contract import KERAS_CAFFE, PLAIN, TORCHVISION, Contract
from resnet_np.weights.file import WeightFile
from resnet_np.weights.npz import read_npz, save_npz
from resnet_np.weights.reading import read

__all__ = [
    "KERAS_CAFFE",
    "PLAIN",
    "TORCHVISION",
    "Contract",
    "WeightFile",
    "read",
    "read_npz",
    "save_npz",
]
