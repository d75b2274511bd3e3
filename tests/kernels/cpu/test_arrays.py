"""Memory for results: where it begins, and that it is used again, but never by two at once."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.kernels.cpu import arrays
from resnet_np.kernels.cpu.arrays import LEAST_KEPT, aligned

LARGE = LEAST_KEPT + 5


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> "arrays._Store":
    store = arrays._Store()
    monkeypatch.setattr(arrays, "_store", store)
    return store


def _kept(store: "arrays._Store") -> int:
    """How many numbers wait for their next use."""
    store._sort()
    assert store.waiting == sum(size * len(same) for size, same in store.kept.items())
    return store.waiting


@pytest.mark.parametrize("shape", [(1,), (3, 5), (7, 11, 13), (LARGE,), (3, LARGE), ()])
def test_they_begin_on_a_cache_line(shape: tuple[int, ...]) -> None:
    made = aligned(shape)
    assert made.ctypes.data % 64 == 0
    assert (made.shape, made.dtype) == (shape, np.float32)
    assert made.flags.c_contiguous
    assert made.flags.writeable


def test_memory_that_nobody_holds_is_used_again() -> None:
    first = aligned((LARGE,))
    place = first.ctypes.data
    del first
    assert aligned((LARGE,)).ctypes.data == place
    assert aligned((5, LARGE)).size == 5 * LARGE


def test_a_view_holds_its_memory() -> None:
    view = aligned((2, LARGE))[1, 3::7].reshape(-1, 1)
    view[...] = 5
    other = aligned((2, LARGE))
    other[...] = 7
    assert (view == 5).all()


def test_a_cycle_gives_back_when_it_is_collected(store: "arrays._Store") -> None:
    class Knot:
        def __init__(self) -> None:
            self.self, self.array = self, aligned((LARGE,))

    Knot()
    gc.collect()
    assert _kept(store) == LARGE


def test_what_is_kept_makes_way_for_what_is_new(store: "arrays._Store") -> None:
    """Held are at most SLACK times as many numbers as were once in use."""
    first, second, third, fourth = (aligned((LARGE + i,)) for i in range(4))
    del second, first, third, fourth
    assert _kept(store) == 4 * LARGE + 6
    held = aligned((2 * LARGE,))
    assert _kept(store) == 3 * LARGE + 5  # what came back first is gone
    assert len(held) == 2 * LARGE


def test_what_there_was_no_room_for_is_not_counted(
    store: "arrays._Store", monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(count: int) -> None:
        raise MemoryError

    monkeypatch.setattr(arrays, "_on_a_line", fail)
    with pytest.raises(MemoryError):
        aligned((LARGE,))
    assert store.lent == store.most_lent == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=60))
def test_no_two_share(steps: list[tuple[int, int]]) -> None:
    held: dict[int, np.ndarray] = {}
    for slot, size in steps:
        held.pop(slot, None)
        held[slot] = aligned((size, LEAST_KEPT))
        held[slot][...] = slot
        assert all((array == number).all() for number, array in held.items())


def test_threads() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(200):
            array = aligned((1 + i % 3, LEAST_KEPT))
            array[...] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
