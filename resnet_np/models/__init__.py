"""The architectures, and published weights for them."""

from resnet_np.models.resnet import (
    STAGES,
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)

__all__ = ["STAGES", "ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
