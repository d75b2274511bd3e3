"""Make what the engines are given: one set of weights, in the forms that they read, and images.

With RESNET_NP_TEST_DATA that is a real ResNet-50 and photographs; without, random numbers that keep
activations near 1 through all layers, and images of noise.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from _engines import CLASSES, PIXELS, Material

import resnet_np as rnp
from resnet_np import weights
from resnet_np.data.images import load_image
from resnet_np.weights import TORCHVISION

REAL_WEIGHTS = "weights/resnet50_pqf_large_decoded.npz"
REAL_IMAGES = "images/imagenet-100"


def real_data() -> Path | None:
    """The folder of real weights and images, if RESNET_NP_TEST_DATA names one."""
    folder = os.environ.get("RESNET_NP_TEST_DATA")
    return Path(folder) if folder and (Path(folder) / REAL_WEIGHTS).exists() else None


def make_material(folder: Path, batch: int, graph: bool = False) -> Material:
    """Everything for batches up to this size, in `folder`; the ONNX graph only where asked for."""
    data = real_data()
    material = Material(
        weights=data / REAL_WEIGHTS if data else random_weights(folder / "weights.npz"),
        graph=folder / "resnet50.onnx",
        images=folder / "images.npy",
        labels=folder / "labels.npy",
    )
    if graph:
        file = replace(weights.read(material.weights), variant="v1.5")  # torchvision's names
        weights.write(material.graph, file)
    photographs = sorted((data / REAL_IMAGES).glob("*.JPEG")) if data else []
    pixels = read_images(photographs, batch) if photographs else noise(batch)
    np.save(material.images, TORCHVISION.normalise(pixels))
    np.save(material.labels, np.random.default_rng(1).integers(0, CLASSES, batch))
    return material


def read_images(paths: list[Path], count: int) -> np.ndarray:
    """uint8 [count, 224, 224, 3]; beginning again where the files end."""
    chosen = [paths[i % len(paths)] for i in range(count)]
    return np.stack([load_image(path, TORCHVISION, PIXELS) for path in chosen])


def noise(count: int) -> np.ndarray:
    """Random bytes [count, 224, 224, 3]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, PIXELS, PIXELS, 3), dtype=np.uint8)


def random_weights(path: Path) -> Path:
    """torchvision's names and layout, no two tensors with the same numbers."""
    from parity import torch_layout
    from random_networks import random_array

    rng = np.random.default_rng(50)
    arrays = rnp.resnet50(num_classes=CLASSES).state_dict()
    np.savez(path, **{n: torch_layout(random_array(rng, n, a.shape)) for n, a in arrays.items()})
    return path
