"""Where an epoch stands, and one look at a set of images."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.autograd import Tensor, no_grad
from resnet_np.data.loader import split_batches
from resnet_np.data.transfer import fetch_behind
from resnet_np.errors import UserError
from resnet_np.kernels import Array
from resnet_np.nn import Module
from resnet_np.training.features import Inputs, batches_of


class DivergedError(UserError):
    """The loss is no number any more."""


@dataclass
class Progress:
    """Where an epoch stands: means over the images seen so far.

    They are added up where they are. On a GPU nobody waits for that, until they are read.
    """

    images: int = 0
    loss: Any = 0.0
    accuracy: Any = 0.0

    def add(self, n: int, loss: Any, right: Any) -> None:
        """Count a batch of n images in: its mean loss, and how many answers were right."""
        self.images += n
        self.loss += (loss - self.loss) * n / self.images
        self.accuracy += (right / n - self.accuracy) * n / self.images

    def read(self) -> "Progress":
        """The same, in Python's own numbers. Raises DivergedError if the loss is none."""
        seen = Progress(self.images, float(self.loss), float(self.accuracy))
        if not math.isfinite(seen.loss):
            raise DivergedError("the loss is no longer a finite number; use a smaller --lr")
        return seen


def compute_logits(model: Module, start: str | None, x: Array) -> Tensor:
    """The logits float32 [N, K] of what enters the network at this stage.

    start : of a ResNet; for other networks None
    """
    y = model(Tensor(x)) if start is None else model(Tensor(x), start=start, checked=True)
    return y.astype(np.float32)


def predict_logits(model: Module, start: str | None, inputs: Inputs, batch_size: int) -> np.ndarray:
    """The logits of all images in evaluation mode, in their order: float32 [N, K]."""
    model.eval()
    batches = split_batches(np.arange(len(inputs.labels)), batch_size)
    with no_grad():
        logits = (compute_logits(model, start, x).data for x in batches_of(inputs, batches))
        return np.concatenate(list(fetch_behind(logits, inputs.device)))
