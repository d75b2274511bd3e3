"""Is what is written here the same when it is read again, and do others compute the same with it?

    KERAS_BACKEND=torch python benchmarks/acceptance/10_round_trips.py

Networks in which every tensor has random numbers of its own are written in every format. Each file
is read again and must be equal to the bit, with all that belongs to it; an ONNX graph is read by
the package `onnx`. Then each is loaded by the framework it is meant for and run on 224-pixel
images; a figure is max|a - b| / max|b| of the logits, b being resnet_np's. Last, mistakes are made
on purpose, which must show. Exits with 1 if anything is wrong. Some minutes.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))
import keras_resnet  # first: it chooses Keras' backend
import numpy as np
import onnx
import onnxruntime
import torch
from parity import channels_first, relative_error, torch_layout
from random_networks import CLASSES, noise, random_network
from safetensors.torch import load_file
from torch_resnet import TorchResNet
from torchvision_shim import torchvision
from transformers import AutoModelForImageClassification
from transformers.utils import logging

from resnet_np import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.weights import TORCHVISION, WeightFile, read
from resnet_np.weights.writing import write

BOUND = 1e-5
SIZE = 224
FACTS = ("variant", "bn_eps", "contract", "classes", "depth", "conv_bias")

KERAS = {"conv_bias": True, "bn_eps": 1.001e-5}
NETWORKS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "18": (18, "v1.5", {}),
    "50 v1.5": (50, "v1.5", {}),
    "50 v1": (50, "v1", {"contract": TORCHVISION}),
    "50 v1, biases": (50, "v1", KERAS),
}

Run = Callable[[Path, WeightFile, np.ndarray], np.ndarray]


def in_torch(path: Path, file: WeightFile, images: np.ndarray) -> np.ndarray:
    """torchvision's network; for v1, which it has not, the same in torch.nn."""
    state = LOADERS[path.suffix](path)
    depth = file.depth or 0
    if file.variant == "v1.5":
        twin = getattr(torchvision.models, f"resnet{depth}")(num_classes=CLASSES)
    else:
        eps = file.bn_eps or 0.0
        twin = TorchResNet(depth, "v1", CLASSES, conv_bias=file.conv_bias, bn_eps=eps)
    twin.load_state_dict(state)
    with torch.no_grad():
        return twin.eval()(torch.from_numpy(channels_first(images))).numpy()


def from_npz(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays if name != "resnet_np"}


LOADERS: dict[str, Callable[[Path], dict[str, torch.Tensor]]] = {
    ".npz": from_npz,
    ".safetensors": load_file,
    ".pth": lambda path: torch.load(path, weights_only=True),
}


def in_transformers(path: Path, file: WeightFile, images: np.ndarray) -> np.ndarray:
    twin, about = AutoModelForImageClassification.from_pretrained(path, output_loading_info=True)
    if any(about.values()):
        raise ValueError(f"{path}: {about}")
    if file.contract.color == "BGR":  # the folder says RGB, and its first kernel is turned round
        images = images[..., ::-1]
    with torch.no_grad():
        return twin.eval()(torch.from_numpy(channels_first(images))).logits.numpy()


def in_keras(path: Path, file: WeightFile, images: np.ndarray) -> np.ndarray:
    twin = keras_resnet.keras.applications.ResNet50(
        weights=None, classes=CLASSES, classifier_activation=None, input_shape=(SIZE, SIZE, 3)
    )
    twin.load_weights(path)
    return np.concatenate([twin.predict_on_batch(image[None]) for image in images])


def in_onnxruntime(path: Path, file: WeightFile, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": channels_first(images)})
    return output


# What is written, whether batch norm is folded, and who runs it.
FORMATS: dict[str, tuple[str, bool, Run]] = {
    ".npz": ("a.npz", False, in_torch),
    ".safetensors": ("a.safetensors", False, in_torch),
    ".pth": ("a.pth", False, in_torch),
    "folder": ("folder", False, in_transformers),
    ".weights.h5": ("a.weights.h5", False, in_keras),
    ".onnx": ("a.onnx", False, in_onnxruntime),
    ".onnx, folded": ("b.onnx", True, in_onnxruntime),
}


def expected_adapted(name: str, format: str) -> bool:
    """Whether the format cannot hold the tensors as they are; then only the logits are compared."""
    if format == "folder":  # no biases, epsilon 1e-5, RGB
        return name == "50 v1, biases"
    if format == ".weights.h5":  # biases, epsilon 1.001e-5
        return name != "50 v1, biases"
    return format == ".onnx, folded"


def differences(path: Path, file: WeightFile) -> Iterator[str]:
    """What is not as it was after writing and reading."""
    if path.suffix == ".onnx":
        tensors = onnx.load(path).graph.initializer
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in tensors}
        expected = {n: torch_layout(a) for n, a in file.arrays.items()}
    else:
        back = read(path)
        arrays, expected = back.arrays, file.arrays
        yield from (f for f in FACTS if getattr(back, f) != getattr(file, f))
    yield from arrays.keys() ^ expected.keys()
    for name in arrays.keys() & expected.keys():
        a, b = arrays[name], expected[name]
        if (a.shape, a.dtype, a.tobytes()) != (b.shape, b.dtype, b.tobytes()):
            yield name


def check(name: str, folder: Path) -> bool:
    """One row for each format that can hold the network."""
    depth, variant, options = NETWORKS[name]
    model, file = random_network(depth, variant, **options)
    assert len({a.tobytes() for a in file.arrays.values()}) == len(file.arrays)
    images = noise(file.contract, 2, SIZE, SIZE)
    ours = logits(model, images)
    good = True
    for format, (written, fold, run) in FORMATS.items():
        if format == ".weights.h5" and variant != "v1":
            continue
        path = folder / written
        notes = write(path, file, fold=fold)
        if expected_adapted(name, format):
            trip, same = "adapted", bool(notes) or fold
        else:
            wrong = list(differences(path, file))
            trip, same = f"{len(wrong)} differ" if wrong else "bit-equal", not wrong
        error = relative_error(run(path, file, images), ours)
        good = good and same and error <= BOUND
        print(f"{name:14} {format:14} {trip:10} {run.__name__[3:]:12} {error:.1e}", flush=True)
    return good


def logits(model: ResNet, images: np.ndarray) -> np.ndarray:
    with no_grad():
        return model(Tensor(images)).numpy()


def mistakes(folder: Path) -> bool:
    """Files with one thing wrong in them, which the figures above must not pass."""
    model, file = random_network(50, "v1", **KERAS)
    images = noise(file.contract, 1, SIZE, SIZE)
    ours = logits(model, images)
    bn, shortcut = "layer2.0.bn3.running_mean", "layer2.0.downsample.1.running_mean"
    swapped = {bn: file.arrays[shortcut], shortcut: file.arrays[bn]}
    cases: list[tuple[str, WeightFile, str, Run]] = [
        ("v1 as v1.5", replace(file, variant="v1.5"), "a.onnx", in_onnxruntime),
        ("v1 as v1.5", replace(file, variant="v1.5"), "folder", in_transformers),
        ("another epsilon", replace(file, bn_eps=1e-3), "a.onnx", in_onnxruntime),
        ("another epsilon", replace(file, bn_eps=1e-3), "a.weights.h5", in_keras),
        *(
            ("two means exchanged", replace(file, arrays=file.arrays | swapped), written, run)
            for written, _, run in FORMATS.values()
        ),
    ]
    good = True
    for what, wrong, written, run in cases:
        write(folder / written, wrong, fold=written == "b.onnx")
        error = relative_error(run(folder / written, wrong, images), ours)
        good = good and error > BOUND
        print(f"{what:20} {written:14} {run.__name__[3:]:12} {error:.1e}", flush=True)
    return good


def main() -> int:
    warnings.simplefilter("ignore")  # of the frameworks, about each other
    logging.disable_progress_bar()
    good = []
    with tempfile.TemporaryDirectory() as folder:
        print("network        written        read again loaded by    relative error of the logits")
        good += [check(name, Path(folder)) for name in NETWORKS]
        print(f"\nmistakes on purpose, which have to be above {BOUND:.0e}")
        good += [mistakes(Path(folder))]
    print(f"\nall within {BOUND:.0e}" if all(good) else "\nsomething is wrong")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
