"""The optimizers' steps on the card against the array kernels', and what they ask of the card."""

from itertools import chain
from typing import Any

import emulator
import ml_dtypes
import numpy as np
import pytest
from agreement import recorded

from resnet_np import nn
from resnet_np import optim as optimizers
from resnet_np.kernels import Array, array
from resnet_np.kernels.gpu import optim

PART = optim.PART
# A part, more than one, a little less and more than a row of threads, one number, none.
SHAPES = [(PART,), (3, PART // 2, 1), (257,), (5, 51), (), (0, 3), (1,)]

# (kernel, how many states, None for the last one of them?, the numbers)
CASES = [
    ("sgd_step", 0, True, (0.1, 0.0, False, 0.01)),
    ("sgd_step", 1, False, (0.1, 0.9, False, 0.0)),
    ("sgd_step", 1, False, (0.1, 0.9, True, 0.01)),
    ("rmsprop_step", 1, True, (0.1, 0.9, 1e-3, 0.0, 0.01)),
    ("rmsprop_step", 2, False, (0.1, 0.9, 1e-3, 0.5, 0.0)),
    ("adam_step", 2, False, (3, 0.1, (0.9, 0.99), 1e-3, 0.01, False)),
    ("adam_step", 2, False, (1, 0.1, (0.9, 0.99), 1e-3, 0.0, False)),
    ("adam_step", 2, False, (1, 0.1, (0.9, 0.99), 1e-3, 0.01, True)),
]
cases = pytest.mark.parametrize("case", CASES, ids=str)
DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
TOLERANCE = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}


class Guarded:
    """Arrays on the card, with a NaN in front of each and another one behind."""

    def __init__(self, card: Any, values: list[Array]) -> None:
        self.rooms = [card.full(a.size + 2, np.nan, a.dtype) for a in values]
        self.arrays = [
            room[1:-1].reshape(a.shape) for room, a in zip(self.rooms, values, strict=True)
        ]
        for mine, a in zip(self.arrays, values, strict=True):
            mine[...] = card.asarray(a)

    def values(self) -> list[Array]:
        for room in self.rooms:
            assert np.isnan(room[[0, -1]].get().astype(np.float32)).all(), "written outside"
        return [a.get() for a in self.arrays]


def random_lists(states: int, dtype: Any, seed: int = 0) -> list[list[Array]]:
    """Weights, gradients, and states, which are above zero."""
    rng = np.random.default_rng(seed)
    ws, gs = ([rng.normal(size=shape).astype(dtype) for shape in SHAPES] for _ in range(2))
    above = ([rng.uniform(0.1, 1, s).astype(dtype) for s in SHAPES] for _ in range(states))
    return [ws, gs, *above]


def expected(name: str, lists: list[list[Array]], last: list[None], numbers: Any) -> Any:
    """What the array kernel makes of the lists, in the precision that the card computes in."""
    dtype = lists[0][0].dtype
    wide = np.float64 if dtype == np.float64 else np.float32
    copies = [[np.array(a, wide) for a in arrays] for arrays in lists]
    getattr(array, name)(*copies, *last, *numbers)
    return [[a.astype(dtype) for a in arrays] for arrays in copies]


def on_the_card(card: Any, name: str, lists: list[list[Array]], *rest: Any) -> list[list[Array]]:
    guarded = [Guarded(card, arrays) for arrays in lists]
    assert getattr(optim, name)(*(a.arrays for a in guarded), *rest) is None
    return [a.values() for a in guarded]


def close(got: Array, want: Array) -> None:
    assert got.dtype == want.dtype
    tolerance = TOLERANCE[str(got.dtype)]
    kind = np.float64 if got.dtype == np.float64 else np.float32
    np.testing.assert_allclose(got.astype(kind), want.astype(kind), tolerance, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@cases
def test_steps(card: Any, case: Any, dtype: str) -> None:
    name, states, without, numbers = case
    lists, last = random_lists(states, DTYPES[dtype]), [None] * without
    record = recorded(card)
    result = on_the_card(card, name, lists, *last, *numbers)
    for got, want in zip(chain(*result), chain(*expected(name, lists, last, numbers)), strict=True):
        close(got, want)
    for got, before in zip(result[1], lists[1], strict=True):
        assert got.tobytes() == before.tobytes(), "a gradient was changed"
    with emulator.backwards():
        again = on_the_card(card, name, lists, *last, *numbers)
    for one, other in zip(chain(*result), chain(*again), strict=True):
        assert one.tobytes() == other.tobytes()
    if record:
        assert [launch.name for launch in record.launches] == 2 * [name.split("_")[0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_taking_a_scale_out_of_gradients(card: Any, dtype: str) -> None:
    [gs] = random_lists(0, DTYPES[dtype])[:1]
    guarded = Guarded(card, gs)
    assert optim.unscale_step(guarded.arrays, 0.25) is True
    for got, before in zip(guarded.values(), gs, strict=True):
        assert got.tobytes() == (before * before.dtype.type(0.25)).tobytes()
    for bad in (np.inf, -np.inf, np.nan):
        for where in (0, 1, 6):
            guarded = Guarded(card, gs)
            guarded.arrays[where].reshape(-1)[-1] = bad
            assert optim.unscale_step(guarded.arrays, 0.25) is False


def test_a_gradient_that_overflows_when_it_is_rounded(card: Any) -> None:
    g = card.full(3, 60000, np.float16)
    assert optim.unscale_step([g], 1.0) is True
    assert optim.unscale_step([g], 1.2) is False


def test_a_scale_is_taken_out_of_gradients_with_gaps(card: Any) -> None:
    wide = card.ones((4, 6))
    assert optim.unscale_step([card.ones(3), wide[:, ::2]], 0.5) is True
    np.testing.assert_array_equal(wide.get(), np.tile([0.5, 1], (4, 3)))
    wide[0, 0] = np.nan
    assert optim.unscale_step([card.ones(3), wide[:, ::2]], 0.5) is False
    assert optim.unscale_step([], 0.5) is True


def test_nan_and_infinity_stay_where_they_are(card: Any) -> None:
    w, g = card.ones(300), card.ones(300)
    g[17], g[290], w[3] = np.nan, np.inf, np.inf
    optim.sgd_step([w], [g], [card.zeros(300)], 0.5, 0.9, False, 0.0)
    result = w.get()
    assert np.isnan(result[17]) and np.isneginf(result[290]) and np.isposinf(result[3])
    np.testing.assert_array_equal(np.delete(result, [3, 17, 290]), 0.5)


def test_parts() -> None:
    """Each number is in one part, and nothing is in two parameters."""
    assert optim.shared_out(()) == optim.shared_out((0, 0)) == []
    assert optim.shared_out((3, 0, PART, PART + 1)) == [
        (0, 0, 3), (2, 0, PART), (3, 0, PART), (3, PART, PART + 1)
    ]  # fmt: skip


def test_nothing_to_change(card: Any) -> None:
    optim.sgd_step([], [], None, 0.1, 0.0, False, 0.0)
    optim.sgd_step([], [], [], 0.1, 0.9, False, 0.0)
    optim.sgd_step([card.empty((0, 3))], [card.empty((0, 3))], None, 0.1, 0.0, False, 0.0)
    assert card.standin.record.launches == []


def descend(ws: list[Array], gs: list[Array]) -> None:
    optim.sgd_step(ws, gs, None, 0.5, 0.0, False, 0.0)


def test_tables_are_made_once_and_again_for_arrays_that_moved(card: Any) -> None:
    ws, gs = [card.ones(3), card.ones(4)], [card.full(3, 1.0), card.full(4, 2.0)]
    moved = [gs[0], card.full(4, 4.0)]
    record = card.standin.record
    uploads = []
    for gradients in (gs, gs, moved, gs, moved):
        record.reset()
        descend(ws, gradients)
        uploads.append(record.uploads)
        assert len(record.launches) == 1
        assert record.operations == []  # nothing but the launch
        assert len(record.allocations) == len(record.uploads)
    addresses, parts = 2 * 3 * 8, 2 * 3 * 8
    assert uploads == [[addresses, parts], [], [addresses], [], []]
    np.testing.assert_array_equal(ws[0].get(), 1 - 5 * 0.5)
    np.testing.assert_array_equal(ws[1].get(), 1 - 3 * 0.5 * 2 - 2 * 0.5 * 4)


def test_other_arrays_at_the_same_addresses(card: Any) -> None:
    """As when memory is given back, and taken for something else."""
    ws, gs = card.ones(2 * PART, "float32"), card.ones(2 * PART, "float32")
    descend([ws], [gs])
    descend([ws[:5]], [gs[:5]])
    descend([ws.view("float64")[:10]], [gs.view("float64")[:10] * 0])
    result = ws.get()
    np.testing.assert_array_equal(result[:5], 0)
    np.testing.assert_array_equal(result[5:], 0.5)


def test_each_stream_has_its_own_tables(card: Any) -> None:
    """One that was copied on another stream might not have arrived."""
    w, g = card.ones(3), card.ones(3)
    with card.cuda.Stream(non_blocking=True) as stream:
        descend([w], [g])
    descend([w], [g])
    np.testing.assert_array_equal(w.get(), 0.5)  # the other stream has not begun
    stream.synchronize()
    np.testing.assert_array_equal(w.get(), 0)
    assert len(card.standin.record.launches) == 2  # (on a card, they would race)


@pytest.mark.parametrize(
    "kind, which",
    [("gaps", 0), ("gaps", 1), ("gaps", 2), ("gaps", -1), ("dtype", 1), ("spread", 1)],
)
@pytest.mark.parametrize("case", [CASES[2], CASES[4], CASES[5]], ids=str)
def test_arrays_that_the_kernels_cannot_take(card: Any, case: Any, kind: str, which: int) -> None:
    """They are changed where they lie, and the next parameter goes by a kernel."""
    name, states, _, numbers = case
    rng = np.random.default_rng(0)
    lists = [list(rng.uniform(0.1, 1, (2, 6, 4)).astype(np.float32)) for _ in range(2 + states)]
    if kind == "dtype":
        lists[which][1] = lists[which][1].astype(np.float64)
    if kind == "spread":
        lists[which][1] = lists[which][1][0]
    mine = [[card.asarray(a) for a in arrays] for arrays in lists]
    if kind == "gaps":
        wide = card.full((6, 8), np.nan, np.float32)
        wide[:, ::2] = mine[which][1]
        mine[which][1] = wide[:, ::2]
    record = recorded(card)
    getattr(array, name)(*lists, *numbers)
    getattr(optim, name)(*mine, *numbers)
    for got, want in zip(chain(*mine), chain(*lists), strict=True):
        close(got.get(), want)
    assert not record or len(record.launches) == 1
    if kind == "gaps":
        assert np.isnan(wide[:, 1::2].get()).all()


@pytest.mark.parametrize(
    "kind, options",
    [
        (optimizers.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        (optimizers.RMSprop, {"momentum": 0.5}),
        (optimizers.Adam, {"weight_decay": 0.1}),
        (optimizers.AdamW, {}),
    ],
)
def test_optimizers(card: Any, kind: Any, options: dict[str, Any]) -> None:
    """On the card as on the processor, with one launch for what is alike."""
    ws, gs = random_lists(0, np.float32)
    here = [nn.Parameter(w.copy()) for w in ws]
    there = [nn.Parameter(card.asarray(w)) for w in ws]
    one, other = (
        kind([{"params": p[:3]}, {"params": p[3:], "lr": 0.01}], **options) for p in (here, there)
    )
    launches = []
    for t in range(3):
        for i, g in enumerate(gs):
            absent = (t, i) == (0, 1)
            here[i].grad = None if absent else g
            there[i].grad = None if absent else card.asarray(g)
        record = recorded(card)
        one.step()
        other.step()
        launches.append(len(record.launches) if record else None)
    counts = issubclass(kind, optimizers.Adam)  # one parameter is a step behind
    assert launches in ([2, 2 + counts, 2 + counts], 3 * [None])
    for mine, his in zip(here, there, strict=True):
        close(his.data.get(), mine.data)
    assert list(other.state_dict()["state"]) == list(one.state_dict()["state"])
    for key, value in one.state_dict()["state"].items():
        found = other.state_dict()["state"][key]
        if isinstance(value, int):
            assert found == value
        else:
            close(found.get(), value)
