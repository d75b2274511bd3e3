"""A small network's weights and a small folder of images, for whole runs in a second or two."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_np.models import ResNet
from resnet_np.weights import PLAIN, save_npz

CLASSES = ("blue", "green", "red")


def small_network(seed: int = 0) -> ResNet:
    """ResNet-18 with 4 to 32 channels, its batch norms as if it had been trained somewhere."""
    model = ResNet(18, width=1 / 16, num_classes=5, seed=seed)
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            low = 0.5 if name.endswith(("weight", "running_var")) else -0.2
            array[...] = rng.uniform(low, low + 0.4, array.shape)
    return model


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A weight file with that network."""
    model = small_network()
    path = tmp_path_factory.mktemp("weights") / "small.npz"
    record = {
        "model": model.config,
        "classes": list("abcde"),
        "contract": PLAIN.to_record(),
        "image_size": 32,
    }
    save_npz(path, {f"model/{n}": a for n, a in model.state_dict().items()}, record)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Noisy images in three colours, 20 each, in class folders."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 160, (36, 40, 3))
            pixels[..., 2 - k] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02}.png")
    return root
