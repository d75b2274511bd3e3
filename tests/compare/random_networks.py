"""Networks of ours with random weights, to be written for other frameworks and run there."""

from typing import Any

import numpy as np

from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import KERAS_CAFFE, TORCHVISION, Contract, WeightFile

CLASSES = 7
CONTRACTS = {"v1": KERAS_CAFFE, "v1.5": TORCHVISION}


def random_network(
    depth: int, variant: str, contract: Contract | None = None, **options: Any
) -> tuple[ResNet, WeightFile]:
    """One of ours in which no two tensors hold the same numbers, and its weight file."""
    model = ResNet(depth, variant=variant, num_classes=CLASSES, **options)
    rng = np.random.default_rng(depth)
    arrays = {n: random_array(rng, n, a.shape) for n, a in model.state_dict().items()}
    file = WeightFile(
        path="random",
        format="checkpoint",
        source="resnet_np",
        arrays=arrays,
        left_out={},
        variant=variant,
        bn_eps=model.config["bn_eps"],
        contract=contract or CONTRACTS[variant],
        classes=tuple(f"class {i}" for i in range(CLASSES)),
        record={"format": 1, "model": model.config},
        depth=depth,
        conv_bias=model.config["conv_bias"],
        folded_statistics=False,
    )
    if file.contract.scale == 1:
        arrays["conv1.weight"] /= 64  # its input is in bytes
    load_weights(model, file, replace_head=False)
    model.eval()
    return model, file


def noise(contract: Contract | None, n: int, h: int, w: int) -> np.ndarray:
    """Images [n, h, w, 3] of random bytes, as these weights expect them."""
    assert contract is not None
    images = np.random.default_rng(h).integers(0, 256, (n, h, w, 3), dtype=np.uint8)
    return contract.normalise(images)


def random_array(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The activations stay near 1 through all layers, so that every number matters."""
    if len(shape) > 1:
        array = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")):
        array = rng.uniform(0.4, 1.2, shape)
    elif name.endswith("bn3.weight"):
        array = rng.uniform(0.1, 0.4, shape)
    else:
        array = rng.normal(size=shape) * 0.2
    return array.astype(np.float32)
