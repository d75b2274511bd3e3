"""Optimisers."""

from resnet_np.optim.optimisers import SGD, Adam, AdamW, Optimiser, RMSprop

__all__ = ["SGD", "Adam", "AdamW", "Optimiser", "RMSprop"]
