"""Two training steps of a narrow ResNet-50 against PyTorch's, stage by stage, in float64.

PyTorch's values were written by tests/golden/make_torch_resnet.py; PyTorch itself is not needed.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbers_by_name import labels, numbers
from parity import relative_error

from resnet_np import ResNet, Tensor, cross_entropy, no_grad, optim
from resnet_np.models import STAGES

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "torch_resnet.npz")
DEPTH, WIDTH, CLASSES, BATCH, PIXELS = GOLDEN["network"]
TOLERANCE = 1e-8  # two steps let the last digits grow; a wrong formula shows in the first ones


def filled_model() -> ResNet:
    """The network that the golden file was made with."""
    model = ResNet(int(DEPTH), width=float(WIDTH), num_classes=int(CLASSES))
    model.to(np.float64)
    model.load_state_dict({n: numbers(n, a.shape) for n, a in model.state_dict().items()})
    return model


def images(step: int) -> np.ndarray:
    return numbers(f"images{step}", (int(BATCH), int(PIXELS), int(PIXELS), 3))


def assert_golden(name: str, ours: np.ndarray) -> None:
    error = relative_error(ours, GOLDEN[name])
    assert error < TOLERANCE, f"{name} differs from PyTorch's by {error:.1e}"


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_every_stage_in_forward_direction(mode: str) -> None:
    model = filled_model().train(mode == "train")
    y = Tensor(images(0))
    with no_grad():
        for stage, after in zip(STAGES, [*STAGES[1:], None], strict=True):
            y = model(y, start=stage, stop=after)
            assert_golden(f"{mode}/{stage}", y.data)


@cache
def two_steps() -> tuple[list[float], dict[str, Any], dict[str, np.ndarray]]:
    """Losses, gradients of the first step, and the state after the last."""
    model = filled_model()
    lr, momentum, decay = map(float, GOLDEN["sgd"])
    optimizer = optim.SGD(model.parameters(), lr, momentum, weight_decay=decay)
    losses: list[float] = []
    gradients: dict[str, Any] = {}
    for step in range(len(GOLDEN["losses"])):
        targets = labels(f"targets{step}", int(BATCH), int(CLASSES))
        loss = cross_entropy(model(Tensor(images(step))), targets)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {n: p.grad for n, p in model.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    return losses, gradients, model.state_dict()


def test_losses() -> None:
    assert_golden("losses", np.array(two_steps()[0]))


@pytest.mark.parametrize("name", [n for n in GOLDEN.files if n.startswith("gradient/")])
def test_gradients(name: str) -> None:
    assert_golden(name, two_steps()[1][name.removeprefix("gradient/")])


def test_running_statistics_and_parameters_after_two_steps() -> None:
    after = [n for n in GOLDEN.files if n.startswith("after/")]
    assert sum("running" in n for n in after) == 2 * 53
    for name in after:
        assert_golden(name, two_steps()[2][name.removeprefix("after/")])
