"""Write tensors with torchvision's names and in PyTorch's layout: `.npz`, `.safetensors`, `.pth`.

All keep the arrays as they are, biases, epsilon and precision included.
"""

import numpy as np

from resnet_np.weights import facts, layout
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.npz import save_npz
from resnet_np.weights.formats.safetensors_file import to_safetensors
from resnet_np.weights.formats.torch_file import FACTS
from resnet_np.weights.formats.torch_writing import write_state_dict


def write_npz(path: str, file: WeightFile) -> list[str]:
    """The facts about the tensors are one more array, of bytes."""
    text = np.frombuffer(facts.to_text(file).encode(), np.uint8)
    save_npz(path, _arrays(file) | {facts.KEY: text})
    return []


def write_safetensors(path: str, file: WeightFile) -> list[str]:
    """The facts about the tensors are a text in the header."""
    content = to_safetensors(_arrays(file), {facts.KEY: facts.to_text(file)})
    with atomic_file(path) as stream:
        stream.write(content)
    return []


def write_pth(path: str, file: WeightFile) -> list[str]:
    """The facts about the tensors are an entry that PyTorch does not look at."""
    with atomic_file(path) as stream:
        write_state_dict(stream, _arrays(file), {FACTS: facts.to_text(file)})
    return []


def _arrays(file: WeightFile) -> dict[str, np.ndarray]:
    return {name: layout.to_torch(array) for name, array in file.arrays.items()}
