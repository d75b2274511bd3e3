"""Schedules: their formulas by hand, and rates that follow them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np import Tensor, optim
from resnet_np.optim import schedules
from resnet_np.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    MultiStep,
    OneCycle,
    Rates,
    ReduceOnPlateau,
    Schedule,
    Step,
    WarmUp,
)


def shares(schedule: Schedule, steps: int) -> list[float]:
    return [round(schedule.share(step), 6) for step in range(steps)]


def test_by_hand() -> None:
    assert shares(Constant(), 3) == [1, 1, 1]
    assert shares(Step(2, 0.5), 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert shares(MultiStep((1, 4), 0.1), 6) == [1, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert shares(Exponential(0.5), 4) == [1, 0.5, 0.25, 0.125]
    half = math.sqrt(0.5) / 2
    assert shares(Cosine(4), 6) == [1, round(0.5 + half, 6), 0.5, round(0.5 - half, 6), 0, 0]
    assert shares(Cosine(2, least=0.2), 4) == [1, 0.6, 0.2, 0.2]
    assert shares(WarmUp(4, Step(1, 0.5)), 7) == [0, 0.25, 0.5, 0.75, 1, 0.5, 0.25]
    assert shares(WarmUp(2, Constant(), first=0.5), 3) == [0.5, 0.75, 1]
    cycle = shares(OneCycle(11, rise=3 / 11, div=4, final_div=10), 12)
    assert cycle[:3] == [0.25, 0.625, 1]
    assert (cycle[6], cycle[10:]) == (0.5125, [0.025, 0.025])  # half way down, and the end
    assert shares(OneCycle(4, rise=0.25, div=4, final_div=1), 2) == [1, 0.8125]  # down at once


@given(st.integers(2, 300), st.floats(0.05, 0.95), st.floats(1, 50), st.floats(1, 1e5))
def test_one_cycle_rises_once_and_falls_once(
    steps: int, rise: float, div: float, final: float
) -> None:
    found = [OneCycle(steps, rise, div, final).share(step) for step in range(steps)]
    top = int(np.argmax(found))
    assert found[-1] == pytest.approx(1 / (div * final))
    assert (np.diff(found[: top + 1]) >= 0).all() and (np.diff(found[top:]) <= 0).all()
    assert max(found) <= 1


@given(st.integers(1, 50), st.integers(0, 100))
def test_a_warm_up_only_puts_off_what_follows(steps: int, step: int) -> None:
    schedule = Cosine(60, 0.1)
    assert WarmUp(steps, schedule).share(steps + step) == schedule.share(step)


def test_plateau_by_hand() -> None:
    schedule = ReduceOnPlateau(0.5, patience=1, least=0.2)
    seen = []
    for loss in (3.0, 2.0, 2.0, 1.9999, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        reduced = schedule.look(loss)
        seen.append((reduced, schedule.share(0)))
    # 1.9999 is not better than 2 by one part in ten thousand: so that is the second bad look
    assert seen == [
        (False, 1), (False, 1), (False, 1), (True, 0.5), (False, 0.5), (False, 0.5), (True, 0.25),
        (False, 0.25), (True, 0.2), (False, 0.2),
    ]  # fmt: skip


def test_plateau_of_what_should_grow_and_a_rest() -> None:
    schedule = ReduceOnPlateau(0.1, patience=0, mode="max", cooldown=2)
    reduced = [schedule.look(accuracy) for accuracy in (0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6)]
    assert reduced == [False, False, True, False, False, True, False]


def test_a_plateau_goes_on_from_its_state() -> None:
    whole, first, second = (ReduceOnPlateau(0.5, patience=2) for _ in range(3))
    losses = [1.0, 1.0, 1.0, 1.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    for loss in losses[:5]:
        first.look(loss)
    second.state = dict(first.state)
    expected = [whole.look(loss) for loss in losses]
    assert [second.look(loss) for loss in losses[5:]] == expected[5:]


def test_a_result_that_is_no_number_is_never_the_best() -> None:
    schedule = ReduceOnPlateau(patience=0)
    assert schedule.look(math.nan) and schedule.look(math.nan)
    assert not schedule.look(1.0)


def test_rates_of_groups() -> None:
    p, q = (Tensor(np.ones(2, np.float32), requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([{"params": [p], "lr": 0.1}, {"params": [q], "lr": 0.01}], lr=1)
    rates = Rates(optimizer, Step(1, 0.5))
    for step, share in ((0, 1), (2, 0.25), (1, 0.5)):
        rates.set(step)
        assert [g["lr"] for g in optimizer.groups] == [0.1 * share, 0.01 * share]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Step(0), "size must be 1 or more, not 0"),
        (lambda: MultiStep((3, 1)), r"milestones must rise, not \(3, 1\)"),
        (lambda: Cosine(0), "steps must be 1 or more, not 0"),
        (lambda: OneCycle(1), "steps must be 2 or more"),
        (lambda: OneCycle(5, rise=1), "rise must be between 0 and 1, not 1"),
        (lambda: WarmUp(0, Constant()), "WarmUp: steps must be 1 or more"),
        (lambda: ReduceOnPlateau(1.5), "factor must be between 0 and 1, not 1.5"),
        (lambda: ReduceOnPlateau(mode="down"), 'mode must be "min" or "max", not .down'),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_all_are_named_where_users_look() -> None:
    for schedule in (Constant, Cosine, Exponential, MultiStep, OneCycle, Step, WarmUp):
        assert getattr(optim.schedules, schedule.__name__) is schedule
    assert optim.schedules is schedules
