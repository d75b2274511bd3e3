"""Optimizers, and what float16 needs beside them."""

from resnet_np.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from resnet_np.optim.scaling import LossScaler

__all__ = ["SGD", "Adam", "AdamW", "LossScaler", "Optimizer", "RMSprop"]
