"""What is found out about a weight file of another framework, and what the network computes."""

from typing import Any

import numpy as np

from resnet_np import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import WeightFile


def facts(file: WeightFile) -> dict[str, Any]:
    """What has to be known to use a file, as values that JSON has."""
    return {
        "format": file.format,
        "source": file.source,
        "depth": file.depth,
        "variant": file.variant,
        "bn_eps": file.bn_eps,
        "conv_bias": file.conv_bias,
        "color": file.contract.color,
        "left_out": sorted(file.left_out),
        "left out without a reason": sorted(n for n, reason in file.left_out.items() if not reason),
        "folded_statistics": file.folded_statistics,
    }


def run(file: WeightFile, variant: str, images: np.ndarray) -> np.ndarray:
    """Our network with the file's weights, behind the preprocessing that the file asks for.

    images: uint8 [N, H, W, 3] -> logits [N, K], or pooled features [N, C] of a file without head.
    """
    assert file.depth is not None
    assert file.bn_eps is not None
    head = file.arrays.get("fc.weight")
    model = ResNet(
        file.depth,
        variant=variant,  # type: ignore[arg-type]
        num_classes=1 if head is None else head.shape[1],
        include_top=head is not None,
        width=file.arrays["conv1.weight"].shape[3] / 64,
        conv_bias=file.conv_bias,
        bn_eps=file.bn_eps,
    )
    report = load_weights(model, file, replace_head=False)
    assert not report.missing
    assert set(report.used) == set(file.arrays)
    model.eval()
    with no_grad():
        return model(Tensor(file.contract.normalise(images))).numpy()


def noise(count: int, size: int) -> np.ndarray:
    """Images of random bytes."""
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
