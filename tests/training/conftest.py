"""A small network's weights and a small folder of images, for whole runs in a second or two."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_network import small_network

from resnet_np.weights import PLAIN, save_npz

CLASSES = ("blue", "green", "red")


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
