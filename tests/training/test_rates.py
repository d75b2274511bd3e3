"""Schedules from text, in epochs."""

import math

import pytest

from resnet_np.errors import UserError
from resnet_np.training.rates import SCHEDULES, make_schedule

EPOCHS, STEPS = 8, 10


def shares(text: str, warmup: float = 0.0) -> list[float]:
    schedule = make_schedule(text, warmup, EPOCHS, STEPS)
    return [schedule.share(step) for step in range(EPOCHS * STEPS)]


def test_every_schedule_can_be_had():
    assert {name.partition("(")[0] for name in SCHEDULES} == {
        "Constant", "Step", "MultiStep", "Exponential", "Cosine", "OneCycle", "ReduceOnPlateau",
    }  # fmt: skip


def test_times_are_epochs():
    assert shares("Constant") == [1.0] * 80
    assert shares("Step(3)") == pytest.approx([1.0] * 30 + [0.1] * 30 + [0.01] * 20)
    assert shares("MultiStep((1, 2.5), gamma=0.5)") == [1.0] * 10 + [0.5] * 15 + [0.25] * 55
    assert shares("Exponential(0.5)")[::10] == [0.5**n for n in range(8)]
    assert shares("Cosine")[40] == pytest.approx(0.5)
    assert shares("Cosine(least=0.2)")[-1] == pytest.approx(
        0.2 + 0.8 * (1 + math.cos(math.pi * 79 / 80)) / 2
    )
    assert max(shares("OneCycle(rise=0.25)")) == shares("OneCycle(rise=0.25)")[19]
    assert shares("ReduceOnPlateau(patience=2)") == [1.0] * 80


def test_after_the_warm_up_the_schedule_begins():
    rising = [step / 20 for step in range(20)]
    assert shares("Constant", warmup=2) == rising + [1.0] * 60
    assert shares("Step(3)", warmup=2) == pytest.approx(rising + [1.0] * 30 + [0.1] * 30)
    assert shares("Cosine", warmup=2)[50] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Wings", "--schedule Wings: there is none; there are Constant, Step"),
        ("Step(3", r"--schedule Step\(3: there is none"),
        ("Step(3), Cosine", "there is none"),
        ("Step", r"missing a required argument: 'size'; write it like Step\(size, gamma=0.1\)"),
        ("Step(7, gama=1)", r"argument 'gama'; write it like Step\(size, gamma=0.1\)"),
        ("Step(-3)", "size must be more than 0 epochs, not -3; write it like Step"),
        ("Step((1, 2))", r"size must be one number, not \(1, 2\)"),
        ("MultiStep(3)", r"milestones must be a tuple of epochs, such as \(3, 5\), not 3; write"),
        ("Step('a')", r"--schedule Step\('a'\): its arguments are numbers"),
        ("Step(1e999)", "its arguments are numbers below 1e"),
        ("Step(1, -1)", "gamma must be more than 0"),
        ("Exponential(0)", "gamma must be more than 0"),
        ("MultiStep(('a',))", "its arguments are numbers"),
        ("Cosine(least=-1)", "least must be 0 or more"),
        ("OneCycle(div=0)", "div must be more than 0"),
        ("OneCycle(final_div=0)", "final_div must be more than 0"),
        ("ReduceOnPlateau(patience='a')", "its arguments are numbers"),
        ("Step(3, wings=2)", "unexpected keyword argument 'wings'"),
        ("MultiStep((3, 1))", r"milestones must rise, not \(3, 1\); write it like MultiStep"),
        ("ReduceOnPlateau(factor=2)", "factor must be between 0 and 1"),
    ],
)
def test_what_is_no_schedule(text, said):
    with pytest.raises(UserError, match=said):
        make_schedule(text, 0.0, EPOCHS, STEPS)


def test_a_warm_up_that_is_too_long():
    for warmup in (8, 1e306):
        with pytest.raises(UserError, match="must be less than the 8 epochs of training"):
            make_schedule("Cosine", warmup, EPOCHS, STEPS)
