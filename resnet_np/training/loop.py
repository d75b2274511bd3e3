"""One epoch of training, and one look at a set of images."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from resnet_np.autograd import Tensor, cross_entropy, no_grad
from resnet_np.data.loader import load_ahead, split_batches
from resnet_np.device import to_host
from resnet_np.errors import UserError
from resnet_np.models.resnet import ResNet
from resnet_np.optim import LossScaler, Optimizer
from resnet_np.training.features import Inputs


@dataclass
class Progress:
    """Where an epoch stands: means over the images seen so far."""

    images: int = 0
    loss: float = 0.0
    accuracy: float = 0.0

    def add(self, n: int, loss: float, right: int) -> None:
        """Count a batch of n images in: its mean loss, and how many answers were right."""
        self.images += n
        self.loss += (loss - self.loss) * n / self.images
        self.accuracy += (right / n - self.accuracy) * n / self.images


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
    little different for each. Raises UserError if the loss is no longer a finite number.
    """
    model.train()
    progress = Progress()
    for batch, loaded in zip(batches, load_ahead(inputs.load, batches), strict=True):
        labels = inputs.labels[batch]
        with np.errstate(over="ignore", invalid="ignore"):  # the check below says it once
            logits = model(Tensor(inputs.prepare(loaded)), start=start).astype(np.float32)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad()
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.backward(loss)
                scaler.step(optimizer)
            right = int((to_host(logits.data).argmax(axis=1) == labels).sum())
            progress.add(len(batch), loss.item(), right)
        if not math.isfinite(progress.loss):
            raise UserError("the loss is no longer a finite number; use a smaller --lr")
        report(progress)
    return progress


def predict_logits(model: ResNet, start: str, inputs: Inputs, batch_size: int) -> np.ndarray:
    """The logits of all images in evaluation mode, in their order: float32 [N, K]."""
    model.eval()
    batches = split_batches(np.arange(len(inputs.labels)), batch_size)
    with no_grad():
        return np.concatenate(
            [
                to_host(model(Tensor(inputs.prepare(loaded)), start=start).data).astype(np.float32)
                for loaded in load_ahead(inputs.load, batches)
            ]
        )
