"""The network of these tests: deep enough to have stages, narrow enough to be quick."""

import numpy as np

from resnet_np.models import ResNet


def small_network(seed: int = 0) -> ResNet:
    """ResNet-18 with 4 to 32 channels, its batch norms as if it had been trained somewhere."""
    model = ResNet(18, width=1 / 16, num_classes=5, seed=seed)
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            low = 0.5 if name.endswith(("weight", "running_var")) else -0.2
            array[...] = rng.uniform(low, low + 0.4, array.shape)
    return model
