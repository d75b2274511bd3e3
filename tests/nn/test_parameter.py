"""Parameters: versions, and numbers that are kept elsewhere until somebody asks for them."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np
import pytest

from resnet_np.nn import Parameter

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def numbers() -> np.ndarray:
    return NUMBERS.copy()


def test_another_array_is_another_version() -> None:
    p = Parameter(numbers())
    assert p.version == 0
    p.data = p.data * 2
    assert p.version == 1
    assert np.array_equal(p.data, 2 * NUMBERS)


def test_what_is_packed_away_comes_back_when_asked_for() -> None:
    p, made = Parameter(numbers()), []

    def unpack() -> np.ndarray:
        made.append(1)
        return numbers()

    p.pack_away(unpack, p.version)
    assert made == []
    assert np.array_equal(p.data, NUMBERS)
    assert p.data is p.data
    assert made == [1] and p.version == 0
    p.data[0, 0] = 7
    assert p.numpy()[0, 0] == 7
    gone = ref(unpack)
    del unpack
    assert gone() is None


def never() -> np.ndarray:
    raise AssertionError("unpacked")


def test_what_somebody_else_has_stays() -> None:
    """Whoever has the array, or a part of it, may write into it."""
    for part in (lambda a: a, lambda a: a[1:], lambda a: a.T.reshape(-1, 2, order="F")[:1]):
        p = Parameter(numbers())
        held = part(p.data)
        p.pack_away(never, p.version)
        held[...] = -1
        assert (p.data == -1).sum() == held.size


def test_a_part_of_a_larger_array_stays() -> None:
    whole = np.zeros((2, 3, 4), np.float32)
    p = Parameter(whole[1])
    p.pack_away(never, p.version)
    whole += 1
    assert np.array_equal(p.data, whole[1])


def test_another_version_stays() -> None:
    p = Parameter(numbers())
    before, p.version = p.version, 1
    p.pack_away(never, before)
    assert np.array_equal(p.data, NUMBERS)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_have_the_array(copied: Callable[[Parameter], Any]) -> None:
    p = Parameter(numbers())
    p.requires_grad, p.version = False, 3
    p.pack_away(numbers, 3)
    twin = copied(p)
    assert isinstance(twin, Parameter)
    assert (twin.version, twin.requires_grad) == (3, False)
    assert np.array_equal(twin.data, NUMBERS)


def test_all_threads_get_one_array() -> None:
    p, barrier = Parameter(numbers()), threading.Barrier(8)
    for _ in range(50):
        seen: list[np.ndarray] = []

        def ask(seen: list[np.ndarray] = seen) -> None:
            barrier.wait()
            seen.append(p.data)
            p.pack_away(numbers, p.version)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(array) for array in seen}) == 1
        del seen, ask
        p.pack_away(numbers, p.version)
