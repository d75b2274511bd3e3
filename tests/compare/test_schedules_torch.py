"""Learning rates over time, against PyTorch's schedulers."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as torchs

from resnet_np.optim.schedules import (
    Cosine,
    Exponential,
    MultiStep,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    WarmUp,
)

STEPS = 60
SGD = torch.optim.SGD
LAST: dict[str, Any] = {"final_div_factor": 30}
PAIRS: dict[str, tuple[Schedule, Callable[[Any], Any]]] = {
    "step": (Step(7, 0.3), lambda o: torchs.StepLR(o, 7, 0.3)),
    "multi-step": (MultiStep((5, 6, 30), 0.2), lambda o: torchs.MultiStepLR(o, [5, 6, 30], 0.2)),
    "exponential": (Exponential(0.95), lambda o: torchs.ExponentialLR(o, 0.95)),
    "cosine": (Cosine(STEPS, 0.1), lambda o: torchs.CosineAnnealingLR(o, STEPS, 0.05)),
    "one cycle": (OneCycle(STEPS), lambda o: torchs.OneCycleLR(o, 0.5, STEPS)),
    "another cycle": (
        OneCycle(STEPS, 0.45, 7, 30),
        lambda o: torchs.OneCycleLR(o, 0.5, STEPS, None, None, 0.45, "cos", div_factor=7, **LAST),
    ),
    "warm-up": (
        WarmUp(8, Cosine(52), 0.1),
        lambda o: torchs.SequentialLR(
            o, [torchs.LinearLR(o, 0.1, 1, 8), torchs.CosineAnnealingLR(o, 52)], [8]
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
def test_shares(name: str) -> None:
    schedule, make = PAIRS[name]
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
    scheduler = make(optimizer)
    steps = 48 if name == "warm-up" else STEPS
    for step in range(steps):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(
            0.5 * schedule.share(step), rel=1e-6, abs=1e-9
        )
        if step < steps - 1:
            optimizer.step()
            scheduler.step()


SETTINGS = list(itertools.product(("min", "max"), (0, 2), (0, 3), (0.0, 0.03)))


@pytest.mark.parametrize(("mode", "patience", "cooldown", "least"), SETTINGS)
def test_plateau(mode: Any, patience: int, cooldown: int, least: float) -> None:
    rng = np.random.default_rng(0)
    results = np.cumsum(rng.normal(0, 0.05, STEPS)) + (3 if mode == "min" else 0.3)
    results[20] = math.nan
    mine = ReduceOnPlateau(0.5, patience, mode, 1e-3, cooldown, least)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torchs.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience, 1e-3, cooldown=cooldown, min_lr=least, eps=0
    )
    for result in results:
        mine.look(float(result))
        theirs.step(float(result))
        assert mine.share(0) == pytest.approx(optimizer.param_groups[0]["lr"])
