"""Training, epoch by epoch and batch by batch, in a form that can stop anywhere and go on.

    training = Fit(model, SGD(model.parameters(), 0.1), train, validation,
                   callbacks=[EarlyStopping(5)])
    training.run(epochs=30)

or, for images as they are, `fit(model, optimizer, train, validation, epochs=30)`.

What a training is made of beside the model's and the optimizer's numbers, `Fit.state_dict` tells.
Given back, in the middle of an epoch or between two, the training ends with the same parameters, to
the last bit, as if nobody had stopped it. This is easy, because nothing random is kept in places:
the order of the images follows from a generator and its state at the epoch's beginning, and what
transforms do to an image from (seed, epoch, its place).
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.autograd import cross_entropy
from resnet_np.data.loader import Images, epoch_order, split_batches
from resnet_np.device import to_device
from resnet_np.errors import UserError
from resnet_np.kernels import Array
from resnet_np.nn import Module
from resnet_np.optim import LossScaler, MovingAverage, Optimizer, clip_gradients
from resnet_np.optim.schedules import Constant, Rates, ReduceOnPlateau, Schedule, WarmUp
from resnet_np.training.callbacks import Callback, load_state, named
from resnet_np.training.features import ImageInputs, Inputs, Pixels, Waiting, batches_of
from resnet_np.training.lint import frozen_parameters
from resnet_np.training.loop import Progress, compute_logits, predict_logits
from resnet_np.training.metrics import mean_cross_entropy
from resnet_np.weights.contract import PLAIN, Contract

LOOK_EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Rule:
    """How a batch becomes a step.

    class_weights, label_smoothing : see `cross_entropy`
    clip : the most that the gradients' length may be, see `clip_gradients`
    accumulate : so many batches make one step, with the gradient of the mean over their images
        (batch norm sees each batch by itself)
    """

    class_weights: np.ndarray | None = None
    label_smoothing: float = 0.0
    clip: float | None = None
    accumulate: int = 1


class Fit:
    """A training of `model` on `train`, judged on `validation` after each epoch.

    start : the stage of a ResNet that the inputs enter; None for any other network
    order : draws the order of the images, one permutation for each epoch
    schedule : of learning rates; its steps are the optimizer's. ReduceOnPlateau looks at the
        validation loss
    scaler : for activations in float16
    average : if given, its weights are those that are judged
    callbacks : are told what happens, in their order

    epochs, batch : how many epochs are done, and how many batches of the next one
    history : a record of figures for each epoch, behind those that are in the list already
    seen : the figures of the epoch under way, as of the last look
    stopped : why the training is to end here, if somebody said so
    look_every : seconds between two looks at figures that lie on a GPU
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        train: Inputs,
        validation: Inputs,
        *,
        start: str | None = None,
        batch_size: int = 32,
        order: np.random.Generator | None = None,
        schedule: Schedule = Constant(),  # noqa: B008 (it never changes)
        rule: Rule = Rule(),
        scaler: LossScaler | None = None,
        average: MovingAverage | None = None,
        callbacks: Sequence[Callback] = (),
        history: list[dict[str, Any]] | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.train, self.validation = train, validation
        self.start, self.batch_size, self.rule = start, batch_size, rule
        self.order = np.random.default_rng(0) if order is None else order
        self.rates, self.scaler, self.average = Rates(optimizer, schedule), scaler, average
        self.plateau = _plateau(schedule)
        self.callbacks, self.history = list(callbacks), [] if history is None else history
        self.epochs, self.batch, self.batches = 0, 0, 0
        self.progress, self.seen, self.seconds = Progress(), Progress(), 0.0
        self.waiting, self.stopped, self.look_every = Waiting(), "", LOOK_EVERY
        self._order_state = self.order.bit_generator.state
        for mistake in frozen_parameters(model, optimizer):
            warnings.warn(mistake, stacklevel=2)

    def run(self, epochs: int) -> list[dict[str, Any]]:
        """Go on until so many epochs are done, or a callback stops it. Gives `history`.

        Raises UserError when it sees that the loss is no longer a finite number.
        """
        self._tell("on_train_begin")
        while self.epochs < epochs and not self.stopped:
            self._tell("on_epoch_begin")
            began = time.monotonic() - self.seconds
            self.train_epoch()
            if self.stopped:
                break
            self.history.append(self._judge() | {"seconds": time.monotonic() - began})
            self.epochs, self.batch = self.epochs + 1, 0
            self.progress, self.seconds, self.waiting = Progress(), 0.0, Waiting()
            self._order_state = self.order.bit_generator.state
            if self.plateau is not None:
                self.plateau.look(self.history[-1]["validation_loss"])
            self._tell("on_epoch_end")
        self._tell("on_train_end")
        return self.history

    def _tell(self, what: str) -> None:
        for callback in self.callbacks:
            getattr(callback, what)(self)

    # --- one epoch -------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """The batches of this epoch that are not done yet; `seen` has their figures.

        The figures are those of the batches as they were trained on: dropout active, the weights a
        little different for each. On the CPU they are looked at after each batch; on a GPU a few
        times a second and after the last, for each look waits for the card.
        """
        began = time.monotonic() - self.seconds
        self.model.train()
        self.order.bit_generator.state = self._order_state  # as it was when the epoch began
        batches = split_batches(epoch_order(self.order, len(self.train.labels)), self.batch_size)
        self.batches, due = len(batches), 0.0
        if self.batch >= len(batches):
            raise UserError(f"batch {self.batch} of an epoch is done, which has {len(batches)}")
        inputs = self.train.at(len(self.history))
        rest = batches[self.batch :]
        for x, indices in zip(batches_of(inputs, rest, self.waiting), rest, strict=True):
            last = self.batch + 1 == len(batches)
            first = self.batch - self.batch % self.rule.accumulate  # of those that make one step
            together = batches[first : first + self.rule.accumulate]
            share = self._weight(indices) / sum(map(self._weight, together))
            self._learn(x, inputs.targets(indices), share, self.batch + 1 - first == len(together))
            self.batch += 1
            if inputs.device == "cpu" or time.monotonic() >= due or last:
                self.seen, due = self.progress.read(), time.monotonic() + self.look_every
                self.seconds = time.monotonic() - began
                self._tell("on_batch_end")
                if self.stopped:
                    return

    def _weight(self, indices: np.ndarray) -> float:
        """What the mean loss of these images divides by, see `cross_entropy`."""
        targets, weights = self.train.targets(indices), self.rule.class_weights
        if weights is None or targets.ndim == 2 or self.rule.accumulate == 1:
            return float(len(indices))
        return float(weights[targets].sum(dtype=np.float64))

    def _learn(self, x: Array, targets: np.ndarray, share: float, complete: bool) -> None:
        """Forward and back; and, if all batches of the step are complete, the step.

        share : what the batch counts in the mean over the step's images
        """
        rule = self.rule
        if self.batch % rule.accumulate == 0:
            self.optimizer.zero_grad()
        with np.errstate(over="ignore", invalid="ignore"):  # `Progress.read` says it once
            logits = compute_logits(self.model, self.start, x)
            loss = cross_entropy(logits, targets, rule.class_weights, rule.label_smoothing)
            part = loss if share == 1 else loss * share
            if self.scaler is None:
                part.backward()
            else:
                self.scaler.backward(part)
            if complete:
                self._step()
            labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
            right = (logits.data.argmax(axis=1) == to_device(labels, self.train.device)).sum()
            self.progress.add(len(labels), loss.data.astype(np.float64), right)

    def _step(self) -> None:
        """The optimizer's step, with the rates and the limits that hold for it."""
        steps = -(-self.batches // self.rule.accumulate)  # in an epoch
        self.rates.set(self.epochs * steps + self.batch // self.rule.accumulate)
        if self.scaler is not None:
            self.scaler.step(self.optimizer, self.rule.clip)
        else:
            if self.rule.clip is not None:
                clip_gradients(self.optimizer, self.rule.clip)
            self.optimizer.step()
        if self.average is not None:
            self.average.update()

    def _judge(self) -> dict[str, Any]:
        """The figures of the epoch."""
        logits = self.predict(self.validation)
        labels = self.validation.labels
        return {
            "epoch": len(self.history) + 1,
            "train_loss": self.seen.loss,
            "train_accuracy": self.seen.accuracy,
            "validation_loss": mean_cross_entropy(logits, labels),
            "validation_accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "lr": [group["lr"] for group in self.optimizer.groups],
            "waiting": self.waiting.seconds,
        }

    def predict(self, inputs: Inputs) -> np.ndarray:
        """The logits float32 [N, K] of all images, by the averaged weights if there are any."""
        if self.average is None:
            return predict_logits(self.model, self.start, inputs, self.batch_size)
        with self.average.in_model():
            return predict_logits(self.model, self.start, inputs, self.batch_size)

    # --- where it stands -------------------------------------------------------------------------

    def can_be_saved(self) -> bool:
        """Not between the batches that make one step: their gradients are in no checkpoint."""
        return self.batch % self.rule.accumulate == 0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on from here, as JSON values.

        Not in it are what the model, the optimizer, the scaler and the average tell of themselves.
        """
        return {
            "epochs": self.epochs,
            "batch": self.batch,
            "progress": [self.progress.images, float(self.progress.loss),
                         float(self.progress.accuracy)],
            "seconds": self.seconds,
            "waiting": self.waiting.seconds,
            "order": self._order_state,
            "plateau": None if self.plateau is None else self.plateau.state_dict(),
            "stopped": self.stopped,
            "callbacks": {n: c.state_dict() for n, c in named(self.callbacks).items()},
        }  # fmt: skip

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Stand where `saved` was taken. Raises KeyError, TypeError or ValueError if it is none."""
        self.epochs, self.batch = int(saved["epochs"]), int(saved["batch"])
        images, loss, accuracy = saved["progress"]
        self.progress = Progress(int(images), float(loss), float(accuracy))
        self.seconds, self.waiting.seconds = float(saved["seconds"]), float(saved["waiting"])
        self.order.bit_generator.state = self._order_state = saved["order"]
        if self.plateau is not None:
            self.plateau.load_state_dict(saved["plateau"])
        self.stopped = str(saved["stopped"])
        for name, callback in named(self.callbacks).items():
            load_state(callback, saved["callbacks"].get(name))


def fit(
    model: Module,
    optimizer: Optimizer,
    train: Images,
    validation: Images,
    epochs: int,
    *,
    contract: Contract = PLAIN,
    device: str = "cpu",
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> list[dict[str, Any]]:
    """Train any network on images, showing how it goes. Gives the record of figures of each epoch.

    Parameters
    ----------
    train, validation : `ArrayImages`, `FolderImages`; for training also `AugmentedImages`
    contract : how bytes become what the network is shown (default: divided by 255)
    device : where the model is
    options : of `Fit`: batch_size, schedule, rule, average, order
    """
    from rich.console import Console

    from resnet_np.training import report

    seen, looked_at = (
        ImageInputs(images, Pixels(contract, device)) for images in (train, validation)
    )
    with report.bars(Console()) as bars:
        shown = report.ShowProgress(bars, epochs)
        training = Fit(model, optimizer, seen, looked_at, callbacks=[shown, *callbacks], **options)
        return training.run(epochs)


def _plateau(schedule: Schedule) -> ReduceOnPlateau | None:
    """The part of a schedule that looks at results, if it has one."""
    if isinstance(schedule, WarmUp):
        return _plateau(schedule.then)
    return schedule if isinstance(schedule, ReduceOnPlateau) else None
