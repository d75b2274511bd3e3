"""Learning rates over the epochs of a run, from text such as "Cosine" or "Step(7, gamma=0.5)"."""

import inspect
from collections.abc import Callable
from typing import Any

from resnet_np.data.transforms.naming import read_calls
from resnet_np.errors import UserError, counted
from resnet_np.optim.schedules import (
    Constant,
    Cosine,
    MultiStep,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    WarmUp,
)

# What can be said, with its arguments; all times are in epochs.
SCHEDULES = {
    "Constant": "the same rate all the time",
    "Step(size, gamma=0.1)": "times gamma every `size` epochs",
    "MultiStep(milestones, gamma=0.1)": "times gamma at each epoch of a tuple",
    "Exponential(gamma)": "times gamma every epoch",
    "Cosine(least=0.0)": "down to `least` of it at the end, along half a cosine",
    "OneCycle(rise=0.3, div=25, final_div=10000)": "up in `rise` of the time, then down",
    "ReduceOnPlateau(factor=0.1, patience=10)": "times factor when the validation loss stops",
}


LARGEST = 1e9  # of what makes sense in a schedule


def make_schedule(text: str, warmup: float, epochs: int, steps: int) -> Schedule:
    """The schedule for so many epochs of so many optimizer steps.

    warmup : epochs in which the rates rise from 0; the schedule begins behind them

    Raises UserError for a text that is no schedule, or has wrong arguments.
    """
    if warmup and warmup >= epochs:
        training = counted(epochs, "epoch")
        raise UserError(f"--warmup {warmup:g}: must be less than the {training} of training")
    rising = round(warmup * steps)
    left = max(1, epochs * steps - rising)

    # Each name's arguments are those of the function, so that they are checked as Python does it.
    def step(size: float, gamma: float = 0.1) -> Schedule:
        if size <= 0:
            raise ValueError(f"size must be more than 0 epochs, not {size:g}")
        return Step(max(1, round(size * steps)), gamma)

    def multi_step(milestones: tuple[float, ...], gamma: float = 0.1) -> Schedule:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones must rise, not {milestones}")
        return MultiStep(tuple(round(m * steps) for m in milestones), gamma)

    def exponential(gamma: float) -> Schedule:
        return Step(steps, gamma)

    def cosine(least: float = 0.0) -> Schedule:
        return Cosine(left, least)

    def one_cycle(rise: float = 0.3, div: float = 25.0, final_div: float = 1e4) -> Schedule:
        return OneCycle(max(2, left), rise, div, final_div)

    def plateau(factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                cooldown: int = 0, least: float = 0.0) -> Schedule:  # fmt: skip
        return ReduceOnPlateau(factor, patience, "min", threshold, cooldown, least)

    known: dict[str, Callable[..., Schedule]] = {
        "Constant": Constant, "Step": step, "MultiStep": multi_step, "Exponential": exponential,
        "Cosine": cosine, "OneCycle": one_cycle, "ReduceOnPlateau": plateau,
    }  # fmt: skip
    schedule = _call(text, known)
    return WarmUp(rising, schedule) if rising else schedule


def _call(text: str, known: dict[str, Callable[..., Schedule]]) -> Schedule:
    try:
        ((name, places, named),) = read_calls(text)
    except ValueError:
        name = text
    if name not in known:
        raise UserError(f"--schedule {text}: there is none; there are {', '.join(SCHEDULES)}")
    values = [*places, *(value for _, value in named)]
    numbers = [n for value in values for n in (value if isinstance(value, tuple) else (value,))]
    if not all(isinstance(n, int | float) and abs(n) < LARGEST for n in numbers):
        raise UserError(f"--schedule {text}: its arguments are numbers below {LARGEST:g}")
    try:
        given = inspect.signature(known[name]).bind(*places, **dict(named)).arguments
        _check_kinds(given)
        return known[name](**given)
    except (TypeError, ValueError) as error:
        (form,) = (form for form in SCHEDULES if form.partition("(")[0] == name)
        raise UserError(f"--schedule {text}: {error}; write it like {form}") from None


def _check_kinds(given: dict[str, Any]) -> None:
    """Raise ValueError if there is a number where a tuple is due, or the other way round."""
    for name, value in given.items():
        if isinstance(value, tuple) != (name == "milestones"):
            wanted = "a tuple of epochs, such as (3, 5)" if name == "milestones" else "one number"
            raise ValueError(f"{name} must be {wanted}, not {value!r}")
