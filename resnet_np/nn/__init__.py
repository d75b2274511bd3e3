"""Layers and networks: module.py (names, modes, reading and writing), layers.py, summary.py."""

from resnet_np.nn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Identity,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Upsample,
)
from resnet_np.nn.module import Module, Parameter
from resnet_np.nn.summary import parameter_counts

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Identity",
    "Linear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Upsample",
    "parameter_counts",
]
