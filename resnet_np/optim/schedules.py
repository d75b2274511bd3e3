"""Learning rates over time.

A schedule says which share of an optimizer's first rates holds at a step; the first step is 0. What
a step is, a batch or an epoch, is for the caller to say. Each is plain data and a formula, so that
a run goes on where it was broken off: only the step has to be known. (`ReduceOnPlateau` is the
exception: it looks at results, and remembers them.)

    rates = Rates(optimizer, WarmUp(500, Cosine(10_000)))
    for step in range(10_500):
        rates.set(step)
        ...

The formulas are those of PyTorch's `torch.optim.lr_scheduler`, in closed form.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from resnet_np.optim.optimizers import Optimizer


class Schedule(Protocol):
    """What all schedules have."""

    def share(self, step: int) -> float:
        """Of the first rate at this step."""


@dataclass(frozen=True)
class Constant:
    """share = 1."""

    def share(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step:
    """share = gamma ** floor(step / size)."""

    size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check(self.size >= 1, "Step: size must be 1 or more", self.size)
        _check(self.gamma > 0, "Step: gamma must be more than 0", self.gamma)

    def share(self, step: int) -> float:
        return self.gamma ** (step // self.size)


@dataclass(frozen=True)
class MultiStep:
    """share = gamma ** (how many of the milestones are at or before the step)."""

    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        rises = list(self.milestones) == sorted(self.milestones)
        _check(rises, "MultiStep: milestones must rise", self.milestones)
        _check(self.gamma > 0, "MultiStep: gamma must be more than 0", self.gamma)

    def share(self, step: int) -> float:
        return self.gamma ** bisect_right(self.milestones, step)


@dataclass(frozen=True)
class Exponential:
    """share = gamma ** step."""

    gamma: float

    def __post_init__(self) -> None:
        _check(self.gamma > 0, "Exponential: gamma must be more than 0", self.gamma)

    def share(self, step: int) -> float:
        return self.gamma**step


@dataclass(frozen=True)
class Cosine:
    """share = least + (1 - least) * (1 + cos(pi * step / steps)) / 2, and `least` after `steps`.

    Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts.
    """

    steps: int
    least: float = 0.0

    def __post_init__(self) -> None:
        _check(self.steps >= 1, "Cosine: steps must be 1 or more", self.steps)
        _check(self.least >= 0, "Cosine: least must be 0 or more", self.least)

    def share(self, step: int) -> float:
        return _from_to(1.0, self.least, min(1.0, step / self.steps))


@dataclass(frozen=True)
class OneCycle:
    """Up from 1 / div to 1 in the first `rise` of the steps, then down to 1 / (div * final_div).

    Both along half a cosine: Smith & Topin 2018, "Super-convergence", in fastai's form. The
    optimizer's first rate is the highest one.
    """

    steps: int
    rise: float = 0.3
    div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        _check(self.steps >= 2, "OneCycle: steps must be 2 or more", self.steps)
        _check(0 < self.rise < 1, "OneCycle: rise must be between 0 and 1", self.rise)
        _check(self.div > 0, "OneCycle: div must be more than 0", self.div)
        _check(self.final_div > 0, "OneCycle: final_div must be more than 0", self.final_div)

    def share(self, step: int) -> float:
        top, last = self.rise * self.steps - 1, self.steps - 1
        if step < top:
            return _from_to(1 / self.div, 1.0, step / top)
        down = (min(step, last) - top) / (last - top)
        return _from_to(1.0, 1 / (self.div * self.final_div), down)


def _from_to(start: float, end: float, t: float) -> float:
    """From `start` at t = 0 to `end` at t = 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


@dataclass(frozen=True)
class WarmUp:
    """From `first` straight up to 1 in so many steps; then another schedule, from its step 0 on.

    Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2.
    """

    steps: int
    then: Schedule
    first: float = 0.0

    def __post_init__(self) -> None:
        _check(self.steps >= 1, "WarmUp: steps must be 1 or more", self.steps)

    def share(self, step: int) -> float:
        if step >= self.steps:
            return self.then.share(step - self.steps)
        return self.first + (1 - self.first) * step / self.steps


class ReduceOnPlateau:
    """share *= factor when results were no better than the best one for more than `patience` looks.

    Better is less than best * (1 - threshold), or, with mode "max", more than best * (1 +
    threshold). After a reduction `cooldown` looks are not counted. The share never falls below
    `least`.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        mode: Literal["min", "max"] = "min",
        threshold: float = 1e-4,
        cooldown: int = 0,
        least: float = 0.0,
    ) -> None:
        _check(0 < factor < 1, "ReduceOnPlateau: factor must be between 0 and 1", factor)
        _check(mode in ("min", "max"), 'ReduceOnPlateau: mode must be "min" or "max"', mode)
        self.factor, self.patience, self.mode, self.threshold = factor, patience, mode, threshold
        self.cooldown, self.least = cooldown, least
        self.state: dict[str, Any] = {"share": 1.0, "best": None, "bad": 0, "resting": 0}

    def share(self, step: int) -> float:
        """The same at every step, until `look` changes it."""
        return float(self.state["share"])

    def state_dict(self) -> dict[str, Any]:
        """What has to be remembered, as JSON values."""
        return dict(self.state)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """The inverse of `state_dict`. Raises KeyError, TypeError or ValueError if it is none."""
        best = saved["best"]
        self.state = {
            "share": float(saved["share"]), "best": None if best is None else float(best),
            "bad": int(saved["bad"]), "resting": int(saved["resting"]),
        }  # fmt: skip

    def look(self, result: float) -> bool:
        """Count a result, of an epoch for example. Whether the share was reduced."""
        state = self.state
        if self._is_better(result):
            state["best"], state["bad"] = result, 0
        else:
            state["bad"] += 1
        if state["resting"] > 0:
            state["resting"], state["bad"] = state["resting"] - 1, 0
        if state["bad"] <= self.patience:
            return False
        state["share"] = max(state["share"] * self.factor, self.least)
        state["resting"], state["bad"] = self.cooldown, 0
        return True

    def _is_better(self, result: float) -> bool:
        best = self.state["best"]
        if best is None:
            return not math.isnan(result)
        if self.mode == "min":
            return bool(result < best * (1 - self.threshold))
        return bool(result > best * (1 + self.threshold))


class Rates:
    """An optimizer's rates, as a schedule says: each group keeps its own share of them."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        """The rates that the groups have now are the first ones."""
        self.optimizer, self.schedule = optimizer, schedule
        self.first = [float(group["lr"]) for group in optimizer.groups]

    def set(self, step: int) -> None:
        """Those of this step, for the optimizer's next one."""
        share = self.schedule.share(step)
        for group, first in zip(self.optimizer.groups, self.first, strict=True):
            group["lr"] = first * share


def _check(right: bool, what: str, value: object) -> None:
    if not right:
        raise ValueError(f"{what}, not {value!r}")
