"""Copies to a card and back: the right numbers, whenever the card gets to them, and few waits.

On the stand-in a stream does its work as late as it may. So a missing event, or memory that is used
again too early, makes wrong numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from standins.card import stand_in

from resnet_np.data.transfer import fetch_behind, send_ahead
from resnet_np.errors import UserError

BATCHES = [np.random.default_rng(i).standard_normal((4, 6)).astype(np.float32) for i in range(6)]


@pytest.fixture
def card() -> Iterator[Any]:
    with stand_in() as cupy:
        yield cupy


@pytest.fixture(params=["the default stream", "a stream of its own"])
def computing(request, card) -> Iterator[Any]:
    """The stream that computes: at once, or late."""
    stream = card.cuda.Stream(non_blocking=True)
    with card.cuda.Stream.null if request.param == "the default stream" else stream as current:
        yield current


def doubled(card: Any) -> Callable[[Any], Any]:
    """x -> 2x on the card, by work that may be late."""

    def double(x: Any) -> Any:
        y = card.empty(x.shape, x.dtype)
        card.multiply(x, np.float32(2), out=y)
        return y

    return double


def test_on_the_cpu_nothing_is_copied():
    assert all(a is b for a, b in zip(send_ahead(BATCHES, "cpu"), BATCHES, strict=True))
    assert all(a is b for a, b in zip(fetch_behind(BATCHES, "cpu"), BATCHES, strict=True))


def test_batches_arrive_in_order(card, computing):
    results = map(doubled(card), send_ahead(BATCHES, "gpu"))
    for y, batch in zip(fetch_behind(results, "gpu"), BATCHES, strict=True):
        np.testing.assert_array_equal(y, 2 * batch)  # now, not later


def test_nobody_has_to_wait_for_what_was_computed(card, computing):
    """The card's memory and the pinned memory go round, although the stream is late throughout."""
    double, sums = doubled(card), card.zeros((4, 6), np.float32)
    for x in send_ahead(BATCHES, "gpu"):
        sums += double(x)
    np.testing.assert_allclose(sums.get(), 2 * sum(BATCHES), rtol=1e-6)
    assert card.get_default_pinned_memory_pool().n_free_blocks() == 3


def test_what_is_kept_stays_as_it_is(card, computing):
    kept = list(send_ahead(BATCHES, "gpu"))
    for x, batch in zip(kept, BATCHES, strict=True):
        np.testing.assert_array_equal(x.get(), batch)
    kept = list(fetch_behind(map(card.asarray, BATCHES), "gpu"))
    np.testing.assert_array_equal(kept, BATCHES)


def test_each_batch_is_copied_once_and_as_it_lies(card):
    pixels = [np.full((n, 8, 8, 3), n, np.uint8)[:, ::-1] for n in (3, 3, 4)]
    for x, batch in zip(send_ahead(pixels, "gpu"), pixels, strict=True):
        assert (x.dtype, x.shape) == (np.uint8, batch.shape)
    assert card.standin.record.uploads == [3 * 192, 3 * 192, 4 * 192]
    assert card.standin.record.operations == card.standin.record.downloads == []
    card.get_default_pinned_memory_pool().free_all_blocks()
    list(fetch_behind(map(card.asarray, BATCHES), "gpu"))
    assert card.standin.record.downloads == [96] * 6
    assert card.get_default_pinned_memory_pool().n_free_blocks() > 0


def test_the_next_copy_is_under_way_while_a_batch_is_used(card, monkeypatch):
    """Started, on another stream than the current one, and not done yet."""
    begun = []
    real = card.ndarray.set
    monkeypatch.setattr(
        card.ndarray, "set", lambda x, host, stream: begun.append(stream) or real(x, host, stream)
    )
    for i, _ in enumerate(send_ahead(BATCHES, "gpu"), start=1):
        assert len(begun) == min(i + 1, len(BATCHES))
        assert begun[-1].is_non_blocking
        assert begun[-1].done == (i == len(BATCHES))
        assert len(card.standin.record.uploads) == i
    assert card.standin.record.synchronisations == 0


def test_a_result_comes_when_the_next_one_is_under_way(card):
    asked = []
    results = (asked.append(i) or card.asarray(batch) for i, batch in enumerate(BATCHES))
    for i, _ in enumerate(fetch_behind(results, "gpu")):
        assert asked == list(range(min(i + 2, len(BATCHES))))


@pytest.mark.parametrize("seen", [0, 1, 2])
def test_who_stops_early_leaves_no_copy_behind(card, computing, seen):
    """Memory that goes back to its pool is nobody's any more."""
    batches = send_ahead(BATCHES, "gpu")
    for _ in range(seen):
        next(batches)
    batches.close()
    others = [card.full((4, 6), 7, np.float32) for _ in range(3)]
    pinned = [card.cuda.alloc_pinned_memory(96) for _ in range(3)]
    for memory in pinned:
        memory[...] = 0
    card.cuda.Device().synchronize()
    assert all((x.get() == 7).all() for x in others)

    results = fetch_behind(map(card.asarray, BATCHES), "gpu")
    for _ in range(seen):
        next(results)
    results.close()
    pinned = [card.cuda.alloc_pinned_memory(96) for _ in range(3)]
    for memory in pinned:
        memory[...] = 0
    card.cuda.Device().synchronize()
    assert not any(memory.any() for memory in pinned)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_an_error_of_the_loader_comes_through(card, device):
    def batches() -> Iterator[np.ndarray]:
        yield from BATCHES[:3]
        raise UserError("broken.jpg: broken image")

    with pytest.raises(UserError, match=r"broken\.jpg"):
        list(send_ahead(batches(), device))


def test_no_memory_on_the_card(card):
    card.standin.capacity = 1000
    with pytest.raises(MemoryError, match="Out of memory"):
        list(send_ahead(BATCHES, "gpu"))


@pytest.mark.parametrize("n", [0, 1])
def test_few_batches(card, n):
    assert len(list(send_ahead(BATCHES[:n], "gpu"))) == n
    assert len(list(fetch_behind(map(card.asarray, BATCHES[:n]), "gpu"))) == n
