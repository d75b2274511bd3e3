"""What may happen beside a training: stopping it, keeping its best weights, watching over it.

Each is told when something begins or ends, and is shown the training (`Fit`), which it may read
and, with `fit.stopped`, end. What a callback remembers is a part of the checkpoint.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.kernels import Array, to_host
from resnet_np.nn import Module

if TYPE_CHECKING:
    from resnet_np.training.fit import Fit

# What can be watched, and whether more of it is better.
FIGURES = {
    "validation_loss": False,
    "validation_accuracy": True,
    "train_loss": False,
    "train_accuracy": True,
}


class Callback:
    """Does nothing at any time: override what you need."""

    def on_train_begin(self, fit: "Fit") -> None: ...

    def on_epoch_begin(self, fit: "Fit") -> None: ...

    def on_batch_end(self, fit: "Fit") -> None:
        """After each batch; on a GPU, where looking takes time, after some, and after the last."""

    def on_epoch_end(self, fit: "Fit") -> None:
        """`fit.history[-1]` has the figures."""

    def on_train_end(self, fit: "Fit") -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What has to be remembered, as JSON values."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None: ...


def named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by the names of their classes; the second of a kind has a 2 behind it."""
    names: dict[str, Callback] = {}
    for callback in callbacks:
        name = type(callback).__name__
        same = sum(type(other) is type(callback) for other in names.values())
        names[f"{name} {same + 1}" if same else name] = callback
    return names


def load_state(callback: Callback, state: dict[str, Any] | None) -> None:
    """Give a callback its state, if it had one."""
    if state:
        callback.load_state_dict(state)


class Best(Callback):
    """Watches a figure, and knows its best value so far and since how many epochs that stands.

    Better is better by more than `least`.
    """

    def __init__(self, figure: str = "validation_loss", least: float = 0.0) -> None:
        if figure not in FIGURES:
            raise ValueError(f"{figure!r} is not watched: take one of {', '.join(FIGURES)}")
        self.figure, self.least, self.sign = figure, least, -1 if FIGURES[figure] else 1
        self.best: float | None = None  # with the sign that makes less better
        self.since = 0

    def on_epoch_end(self, fit: "Fit") -> None:
        value = self.sign * fit.history[-1][self.figure]
        if self.best is None or math.isnan(self.best) or value < self.best - self.least:
            self.best, self.since = value, 0
            self.improved(fit)
        else:
            self.since += 1

    def improved(self, fit: "Fit") -> None:
        """The epoch that just ended is the best one so far."""

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.best = None if saved["best"] is None else float(saved["best"])
        self.since = int(saved["since"])


class EarlyStopping(Best):
    """Ends the training when the figure has not been better for `patience` epochs (Keras' rule)."""

    def __init__(self, patience: int, figure: str = "validation_loss", least: float = 0.0) -> None:
        super().__init__(figure, least)
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be 1 or more, not {patience}")
        self.patience = patience

    def on_epoch_end(self, fit: "Fit") -> None:
        super().on_epoch_end(fit)
        if self.since >= self.patience:
            name, epoch = self.figure.replace("_", " "), len(fit.history) - self.since
            fit.stopped = f"{name} has not been better since epoch {epoch}"


class KeepBest(Best):
    """Calls `save` after each epoch that is the best one so far."""

    def __init__(self, save: Callable[[], None], figure: str = "validation_loss") -> None:
        super().__init__(figure)
        self.save = save

    def improved(self, fit: "Fit") -> None:
        self.save()


class SaveNowAndThen(Callback):
    """Calls `save` when the last time is `seconds` ago, also in the middle of an epoch."""

    def __init__(self, save: Callable[[], None], seconds: float) -> None:
        self.save, self.seconds = save, seconds
        self.last = time.monotonic()

    def on_batch_end(self, fit: "Fit") -> None:
        if fit.can_be_saved() and fit.batch < fit.batches:  # or the epoch's end is near
            self._save_if_due()

    def on_epoch_end(self, fit: "Fit") -> None:
        self._save_if_due()

    def _save_if_due(self) -> None:
        if time.monotonic() - self.last > self.seconds:
            self.save()
            self.last = time.monotonic()


class SaveEpochs(Callback):
    """Calls `save(epoch)` after every `every`-th epoch."""

    def __init__(self, save: Callable[[int], None], every: int) -> None:
        self.save, self.every = save, every

    def on_epoch_end(self, fit: "Fit") -> None:
        if len(fit.history) % self.every == 0:
            self.save(len(fit.history))


class FrozenAudit(Callback):
    """Sees to it that what is frozen stays as it is: one byte that has moved is an error.

    Every frozen parameter, and every statistic of a frozen module, is hashed before and after each
    epoch (SHA-256).
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.before: dict[str, str] = {}

    def on_epoch_begin(self, fit: "Fit") -> None:
        self.before = hashes(frozen_arrays(self.model))

    def on_epoch_end(self, fit: "Fit") -> None:
        """Raises UserError if something has changed."""
        after = hashes(frozen_arrays(self.model))
        moved = sorted(n for n in self.before | after if self.before.get(n) != after.get(n))
        if moved:
            raise UserError(
                f"epoch {len(fit.history)} has changed what is frozen: {some(moved)}; this should "
                "never happen: do not use what this run writes, and tell how it came about"
            )


def frozen_arrays(model: Module) -> dict[str, Array]:
    """All that may not change, by name."""
    modules = dict(model.named_modules())
    arrays = {n: p.data for n, p in model.named_parameters() if not p.requires_grad}
    buffers = model.named_buffers()
    return arrays | {n: b for n, b in buffers if modules[n.rpartition(".")[0]].frozen}


def hashes(arrays: dict[str, Array]) -> dict[str, str]:
    """The SHA-256 of each array's bytes, in hexadecimal."""

    def digest(array: np.ndarray) -> str:
        return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()

    with ThreadPoolExecutor() as pool:  # hashlib lets go of Python's lock
        found = pool.map(digest, map(to_host, arrays.values()))
        return dict(zip(arrays, found, strict=True))
