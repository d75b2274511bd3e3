"""Which learning rate? Let it rise from step to step, and see what becomes of the loss.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3. Where the loss
falls fastest is a good rate; where it begins to rise, training would fall apart. The network is
worth nothing afterwards.
"""

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from resnet_np.data.loader import split_batches
from resnet_np.errors import UserError
from resnet_np.training.callbacks import Callback
from resnet_np.training.fit import Fit
from resnet_np.training.loop import DivergedError

LOWEST, HIGHEST = 1e-3, 1e3  # the shares of the usual rates that are tried
SMOOTHING = 0.9  # of the losses before, in the running mean that is looked at
SETTLED = 10  # the first ones are means of few batches, and say little
DIVERGED = 4.0  # times the lowest loss: there is nothing more to learn


@dataclass(frozen=True)
class Rising:
    """A schedule: share = LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))."""

    steps: int

    def share(self, step: int) -> float:
        return LOWEST * (HIGHEST / LOWEST) ** (step / max(1, self.steps - 1))


@dataclass(frozen=True)
class Found:
    """The loss at each share of the usual rates, smoothed; and where it falls fastest."""

    shares: np.ndarray
    losses: np.ndarray

    @property
    def steepest(self) -> float:
        """The share at which the loss falls fastest, per factor of the rate; before its minimum."""
        lowest = int(self.losses.argmin())
        if lowest < 2:
            raise UserError(
                "the loss does not fall at any rate that was tried; is the network trained already?"
            )
        slopes = np.gradient(self.losses, np.log(self.shares))
        return float(self.shares[slopes[: lowest + 1].argmin()])


class Losses(Callback):
    """Writes down the loss of each batch, smoothed, until it is far above its lowest value."""

    def __init__(self, schedule: Rising) -> None:
        self.schedule = schedule
        self.losses: list[float] = []
        self._mean, self._before = 0.0, (0, 0.0)  # images and their summed loss, before the batch

    def on_batch_end(self, fit: Fit) -> None:
        images, total = fit.seen.images, fit.seen.images * fit.seen.loss
        if fit.batch == 1:
            self._before = (0, 0.0)
        loss = (total - self._before[1]) / (images - self._before[0])
        self._before = (images, total)
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        # The mean begins at 0, and is too small by that at first (Kingma & Ba 2015, section 3).
        self.losses.append(self._mean / (1 - SMOOTHING ** (len(self.losses) + 1)))
        if len(self.losses) == self.schedule.steps:
            fit.stopped = "all rates were tried"
        elif self.losses[-1] > DIVERGED * min(self.losses[SETTLED:], default=math.inf):
            fit.stopped = "the loss is far above its lowest value"


def find_rate(fit: Fit, steps: int) -> Found:
    """Train for so many steps with rising rates, in place of what `fit` was to do."""
    schedule = Rising(steps)
    seen = Losses(schedule)
    fit.rates.schedule, fit.plateau, fit.callbacks = schedule, None, [seen]
    fit.look_every = 0.0
    batches = len(split_batches(np.arange(len(fit.train.labels)), fit.batch_size))
    with suppress(DivergedError):  # from one step to the next it is no number any more
        fit.run(math.ceil(steps / batches))
    settled = seen.losses[SETTLED:]
    if len(settled) < 3 or min(settled) > DIVERGED * seen.losses[0]:
        raise UserError("the loss grows from the first steps on: try a smaller --lr and --head-lr")
    looked_at = range(SETTLED, len(seen.losses))
    shares = np.array([schedule.share(step) for step in looked_at])
    return Found(shares, np.array(settled))
