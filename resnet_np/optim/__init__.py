"""Optimizers; learning rates over time; and what else a step may need."""

from resnet_np.optim import schedules
from resnet_np.optim.averaging import MovingAverage
from resnet_np.optim.clipping import clip_gradients
from resnet_np.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from resnet_np.optim.scaling import LossScaler

__all__ = [
    "SGD", "Adam", "AdamW", "LossScaler", "MovingAverage", "Optimizer", "RMSprop",
    "clip_gradients", "schedules",
]  # fmt: skip
