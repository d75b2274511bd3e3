"""One epoch of training, and one look at a set of images."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.autograd import Tensor, cross_entropy, no_grad
from resnet_np.data.loader import split_batches
from resnet_np.data.transfer import fetch_behind
from resnet_np.device import to_device
from resnet_np.errors import UserError
from resnet_np.models.resnet import ResNet
from resnet_np.optim import LossScaler, Optimizer
from resnet_np.training.features import Inputs, batches_of

LOOK_EVERY = 0.2  # seconds between two looks at figures that lie on a GPU


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
        """The same, in Python's own numbers. Raises UserError if the loss is not a finite one."""
        seen = Progress(self.images, float(self.loss), float(self.accuracy))
        if not math.isfinite(seen.loss):
            raise UserError("the loss is no longer a finite number; use a smaller --lr")
        return seen


def train_epoch(
    model: ResNet,
    start: str,
    optimizer: Optimizer,
    inputs: Inputs,
    batches: list[np.ndarray],
    report: Callable[[Progress], None],
    scaler: LossScaler | None = None,
) -> Progress:
    """One optimizer step for each batch; `inputs` enter the model at stage `start`.

    The loss is float32 in any precision. `scaler` is for float16, which may leave out a step.

    The figures are those of the batches as they were trained on: dropout active, the weights a
    little different for each. On the CPU they are looked at and reported after each batch; on a GPU
    a few times a second and after the last, for each look waits for the card.

    Raises UserError when it sees that the loss is no longer a finite number.
    """
    model.train()
    progress, seen, due = Progress(), Progress(), 0.0
    for i, x in enumerate(batches_of(inputs, batches), start=1):
        labels = inputs.labels[batches[i - 1]]
        with np.errstate(over="ignore", invalid="ignore"):  # `read` says it once
            logits = model(Tensor(x), start=start, checked=True).astype(np.float32)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad()
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.backward(loss)
                scaler.step(optimizer)
            right = (logits.data.argmax(axis=1) == to_device(labels, inputs.device)).sum()
            progress.add(len(labels), loss.data.astype(np.float64), right)
        if inputs.device == "cpu" or time.monotonic() >= due or i == len(batches):
            seen, due = progress.read(), time.monotonic() + LOOK_EVERY
            report(seen)
    return seen


def predict_logits(model: ResNet, start: str, inputs: Inputs, batch_size: int) -> np.ndarray:
    """The logits of all images in evaluation mode, in their order: float32 [N, K]."""
    model.eval()
    batches = split_batches(np.arange(len(inputs.labels)), batch_size)
    with no_grad():
        logits = (
            model(Tensor(x), start=start, checked=True).data.astype(np.float32)
            for x in batches_of(inputs, batches)
        )
        return np.concatenate(list(fetch_behind(logits, inputs.device)))
