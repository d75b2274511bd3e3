"""Optimizers against PyTorch's, step by step, and their groups, state and errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_np import kernels, nn, optim
from resnet_np.optim import Optimizer

GOLDEN = Path(__file__).parents[1] / "golden" / "optimizers.npz"
STEPS = 10

# The cases of golden/make_optimizers.py; its second group has a learning rate of 0.05.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD plain": (optim.SGD, {"lr": 0.1}),
    "SGD decay": (optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "SGD momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "SGD nesterov": (
        optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    "RMSprop plain": (optim.RMSprop, {"lr": 0.01, "alpha": 0.9}),
    "RMSprop momentum": (
        optim.RMSprop,
        {"lr": 0.01, "momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1},
    ),
    "Adam": (optim.Adam, {"lr": 0.02}),
    "Adam decay": (
        optim.Adam,
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
    ),
    "AdamW": (optim.AdamW, {"lr": 0.02}),
    "AdamW decay": (optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.3}),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN, allow_pickle=False) as file:
        return dict(file)


def make(name: str, golden: dict[str, np.ndarray]) -> tuple[list[nn.Parameter], Optimizer]:
    weights = [nn.Parameter(golden[f"start {i}"].copy()) for i in range(2)]
    kind, options = CASES[name]
    return weights, kind([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.05}], **options)


def step(weights: list[nn.Parameter], golden: dict[str, np.ndarray], t: int) -> None:
    for i, w in enumerate(weights):
        w.grad = golden[f"gradient {i}"][t]


@pytest.mark.parametrize("name", CASES)
def test_each_step_equals_that_of_pytorch(name: str, golden: dict[str, np.ndarray]) -> None:
    weights, optimizer = make(name, golden)
    for t in range(STEPS):
        step(weights, golden, t)
        optimizer.step()
        for i, w in enumerate(weights):
            expected = golden[f"{name} {i}"][t]
            error = np.abs(w.data - expected).max() / np.abs(expected).max()
            assert error <= 1e-6, f"step {t}, group {i}"
            assert w.dtype == np.float32


def test_the_golden_file_has_no_other_case(golden: dict[str, np.ndarray]) -> None:
    named = {key.rpartition(" ")[0] for key in golden}
    assert named == {*CASES, "start", "gradient"}


@pytest.mark.parametrize("name", CASES)
def test_going_on_from_a_saved_state_changes_nothing(
    name: str, golden: dict[str, np.ndarray]
) -> None:
    weights, optimizer = make(name, golden)
    for t in range(4):
        step(weights, golden, t)
        optimizer.step()
    others, resumed = make(name, golden)
    for mine, other in zip(weights, others, strict=True):
        other.data[...] = mine.data
    resumed.groups[0]["lr"] = 7.0
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.groups[0]["lr"] == CASES[name][1]["lr"]
    for t in range(4, STEPS):
        for w, o in ((weights, optimizer), (others, resumed)):
            step(w, golden, t)
            o.step()
    for mine, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(mine.data, other.data)


def test_the_step_is_taken_in_place_and_leaves_the_gradient_alone() -> None:
    for kind, options in CASES.values():
        w = nn.Parameter(np.ones(3, np.float32))
        data, w.grad = w.data, np.full(3, 2, np.float32)
        kind([w], **options).step()
        assert w.data is data
        assert (data != 1).all()
        np.testing.assert_array_equal(w.grad, [2, 2, 2])


def test_parameters_without_a_gradient_stay() -> None:
    a, b = (nn.Parameter(np.ones(2, np.float32)) for _ in range(2))
    optimizer = optim.AdamW([a, b], weight_decay=0.5)
    a.grad = np.ones(2, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(b.data, [1, 1])
    assert (a.data != 1).all()
    optimizer.zero_grad()
    assert a.grad is None


@pytest.mark.parametrize("name", CASES)
def test_a_parameter_does_not_notice_the_others(name: str) -> None:
    """Its numbers are those of an optimizer of its own, bit for bit, whoever takes part when."""
    kind, options = CASES[name]
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (), (70_000,), (5,), (2, 2)]
    dtypes = [np.float32, np.float32, np.float32, np.float64, np.float64]
    starts = [rng.normal(size=s).astype(d) for s, d in zip(shapes, dtypes, strict=True)]
    together, apart = ([nn.Parameter(w.copy()) for w in starts] for _ in range(2))
    groups = [{"params": together[:4], "lr": 0.03}, {"params": together[4:]}]
    optimizer = kind(groups, **options)
    single = [kind([w], **options | ({"lr": 0.03} if w is not apart[4] else {})) for w in apart]
    for t in range(4):
        for i, (w, other) in enumerate(zip(together, apart, strict=True)):
            absent = t in ((), (0,), (1,), (0, 2), ())[i]
            w.grad = None if absent else rng.normal(size=w.shape).astype(w.dtype)
            other.grad = w.grad
        optimizer.step()
        for one in single:
            one.step()
    for w, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(w.data, other.data)
        assert w.version == other.version
    for i, one in enumerate(single):
        for key, value in one.state_dict()["state"].items():
            mine = optimizer.state_dict()["state"][f"{i}{key[1:]}"]
            np.testing.assert_array_equal(mine, value)
            assert type(mine) is type(value)


def test_one_call_changes_what_is_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[int], int]] = []

    def count(ws: list[Any], gs: Any, ms: Any, vs: Any, step: int, *options: Any) -> None:
        calls.append(([w.size for w in ws], step))

    for module in (kernels.of(np.empty(0, np.float32)), kernels.of(np.empty(0))):
        monkeypatch.setattr(module, "adam_step", count)
    sizes = range(1, 7)
    weights = [nn.Parameter(np.ones(n, np.float64 if n == 5 else np.float32)) for n in sizes]
    optimizer = optim.Adam([{"params": weights[:5]}, {"params": weights[5:]}])
    for t in range(2):
        for w in weights:
            w.grad = None if (t, w.size) in ((0, 3), (1, 4)) else w.data
        optimizer.step()
    first = [([1, 2, 4], 1), ([5], 1), ([6], 1)]
    assert calls == [*first, ([1, 2], 2), ([3], 1), ([5], 2), ([6], 2)]


def test_a_step_that_is_broken_off_is_counted() -> None:
    """Some of the parameters may have changed, and what was made from them before is stale."""
    weights = [nn.Parameter(np.ones(2, np.float32)) for _ in range(2)]
    weights[0].grad, weights[1].grad = np.ones(2, np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        optim.SGD(weights, 0.5).step()
    np.testing.assert_array_equal(weights[0].data, [0.5, 0.5])
    assert weights[0].version == 1


def test_a_schedule_changes_the_groups() -> None:
    w = nn.Parameter(np.ones(1, np.float32))
    optimizer = optim.SGD([w], 0.5)
    optimizer.groups[0]["lr"] = 0.25
    w.grad = np.ones(1, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(w.data, [0.75])


W = nn.Parameter(np.ones(1, np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.SGD([], 0.1), "SGD: there is no parameter"),
        (lambda: optim.SGD([W], -0.1), "lr must not be negative"),
        (lambda: optim.SGD([W], 0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: optim.Adam([{"params": [W], "momentum": 0.9}]), r"unknown options \['momentum'\]"),
        (lambda: optim.Adam([{"params": [W]}, {"params": [W]}]), "in two groups"),
        (lambda: optim.Adam([{"lr": 0.1}]), 'a group is a dict with "params"'),
        (lambda: optim.Adam([{"params": [W]}, W]), 'a group is a dict with "params"'),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_state_of_other_groups_is_refused() -> None:
    one = optim.SGD([W], 0.1)
    two = optim.SGD([{"params": [W]}, {"params": [nn.Parameter([1.0])]}], 0.1)
    with pytest.raises(ValueError, match="other parameter groups"):
        two.load_state_dict(one.state_dict())


def test_names_are_no_parameters() -> None:
    layer = nn.Linear(2, 1, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"as of model\.parameters\(\), not tuple"):
        optim.SGD(layer.named_parameters(), 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["0.velocity", "1.velocity", "x.velocity"])
def test_a_state_of_other_parameters_is_refused_and_nothing_is_loaded(key: str) -> None:
    optimizer = optim.SGD([W], 0.1, momentum=0.9)
    before = optimizer.state_dict()
    saved = {"groups": [{"lr": 7.0}], "state": {key: np.ones((2, 3), np.float32)}}
    with pytest.raises(ValueError, match=f"the saved optimizer.* ?'?{key}"):
        optimizer.load_state_dict(saved)
    assert optimizer.state_dict() == before
