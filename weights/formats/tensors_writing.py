"""Write tensors with torchvision's names and in PyTorch's layout: `.npz`."""

import numpy as np

from resnet_np.weights import facts, layout
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.npz import save_npz


def write_npz(path: str, file: WeightFile) -> list[str]:
    """An `.npz` of the tensors; the facts about them are an entry of bytes."""
    arrays = {name: layout.to_torch(array) for name, array in file.arrays.items()}
    text = facts.to_text(file).encode()
    save_npz(path, arrays | {facts.KEY: np.frombuffer(text, np.uint8)})
    return []
