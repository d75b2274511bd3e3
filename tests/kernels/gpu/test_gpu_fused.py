"""A convolution made ready once: the same as one operation after the other."""

from threading import Thread
from typing import Any

import numpy as np
import pytest
from agreement import DTYPES, assert_close, in_double, numbers, recorded

from resnet_np.kernels import Padding, Pair, output_sizes, using_precision
from resnet_np.kernels.fused import PlainConv
from resnet_np.kernels.gpu import convolution, fused
from resnet_np.kernels.gpu.fused import GemmConv
from resnet_np.kernels.gpu.streams import in_turn

Place = tuple[Pair, Padding]
PIXEL: Place = ((1, 1), ((0, 0), (0, 0)))
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], Place]] = [
    ((3, 4, 5, 8), (1, 1, 8, 16), PIXEL),
    ((2, 5, 5, 3), (1, 1, 3, 5), ((2, 2), ((0, 0), (0, 0)))),
    ((3, 6, 5, 8), (3, 3, 8, 4), ((1, 1), ((1, 1), (1, 1)))),
    ((2, 9, 8, 3), (7, 5, 3, 6), ((2, 1), ((3, 2), (2, 1)))),
]


def inputs(x_shape: tuple[int, ...], w_shape: tuple[int, ...], where: Place, dtype: str) -> Any:
    """(x, w, scale, b, residual): scale in double precision, b as parameters are."""
    rng = np.random.default_rng(5)
    y_shape = (x_shape[0], *output_sizes(x_shape, w_shape[:2], *where), w_shape[3])
    x, w, residual = (numbers(rng, shape, dtype) for shape in (x_shape, w_shape, y_shape))
    scale, b = rng.uniform(-1, 1, w_shape[3]), rng.standard_normal(w_shape[3])
    return x, w, scale, b.astype("f8" if dtype == "float64" else "f4"), residual


def expected(given: Any, where: Place, residual: bool, relu: bool) -> Any:
    x, w, scale, b, shortcut = in_double(*given)
    y = np.empty(shortcut.shape)
    PlainConv(w, scale, b, *where).ready(x, y, shortcut if residual else None, relu)()
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("workspace", [1, 2**20])
def test_ready(
    card: Any, dtype: str, shape: Any, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "WORKSPACE_BYTES", workspace)
    given, where = inputs(*shape, dtype), shape[2]
    x, w, scale, b, shortcut = (card.asarray(value) for value in given)
    conv = GemmConv(w, scale, b, x.shape, *where)
    assert conv.unpack is None
    for residual, relu in ((False, False), (False, True), (True, False), (True, True)):
        y = card.full(shortcut.shape, np.nan, x.dtype)
        run = conv.ready(x, y, shortcut if residual else None, relu)
        run()
        run()  # once more, over its own result
        wanted = expected(given, where, residual, relu)
        assert_close(y, wanted, dtype)
        np.testing.assert_array_equal(shortcut.get(), given[4])
        if residual:
            over = shortcut.copy()
            conv.ready(x, over, over, relu)()
            assert_close(over, wanted, dtype)


def test_without_scale_and_shift(card: Any) -> None:
    given, where = inputs(*SHAPES[0], "float32"), SHAPES[0][2]
    x, w = card.asarray(given[0]), card.asarray(given[1])
    y, record = card.empty(given[4].shape, "f4"), recorded(card)
    GemmConv(w, None, None, x.shape, *where).ready(x, y, None, False)()
    assert_close(y, expected((*given[:2], None, None, given[4]), where, False, False), "float32")
    assert not record or record.launches == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float32_weights_for_16_bit_images(card: Any, dtype: str) -> None:
    shape, w_shape, where = SHAPES[2]
    given = inputs(shape, w_shape, where, dtype)
    x, w, scale, b, residual = (card.asarray(value) for value in given)
    conv = GemmConv(w.astype("f4"), scale, b, x.shape, *where)
    y, record = card.empty(residual.shape, x.dtype), recorded(card)
    conv.ready(x, y, residual, True)()
    assert_close(y, expected(given, where, True, True), dtype)
    assert not record or all(done.a == dtype for done in record.gemms)


def test_a_call_allocates_nothing(card: Any) -> None:
    for shape in SHAPES:
        x, w, scale, b, residual = (card.asarray(v) for v in inputs(*shape, "float32"))
        y = card.empty(residual.shape, "f4")
        run = GemmConv(w, scale, b, x.shape, *shape[2]).ready(x, y, residual, True)
        card.standin.record.reset()
        run()
        record = card.standin.record
        assert record.launches and record.gemms
        assert (record.allocations, record.operations, record.uploads) == ([], [], [])


def test_convolutions_of_a_stream_share_a_workspace(card: Any) -> None:
    runs, taken = [], []
    for shape in (SHAPES[3], SHAPES[2], SHAPES[3]):
        x, w, scale, b, residual = (card.asarray(v) for v in inputs(*shape, "float32"))
        conv = GemmConv(w, scale, b, x.shape, *shape[2])
        conv.factors["float32"] = conv.w
        y = card.empty(residual.shape, "f4")
        card.standin.record.reset()
        runs.append(conv.ready(x, y, None, False))
        taken.append(sum(card.standin.record.allocations))
    assert taken[0] > 0
    assert taken[1] > taken[0]  # it was too small
    assert taken[2] == 0
    assert len(fused._workspaces) == 1
    x, w = card.zeros((1, 4, 4, 3), "f4"), card.zeros((3, 3, 3, 2), "f4")
    conv = GemmConv(w, None, None, x.shape, (1, 1), ((0, 0), (0, 0)))
    with card.cuda.Stream():
        runs.append(conv.ready(x, card.zeros((1, 2, 2, 2), "f4"), None, False))
    assert len(fused._workspaces) == 2
    runs.clear()
    assert len(fused._workspaces) == 0


def test_two_threads_take_turns(card: Any) -> None:
    shape, w_shape, where = SHAPES[2]
    given = inputs(shape, w_shape, where, "float32")
    x, w, scale, b, residual = (card.asarray(value) for value in given)
    conv = GemmConv(w, scale, b, x.shape, *where)
    pairs = []
    for factor in (1, 2):
        y = card.empty(residual.shape, "f4")
        with in_turn():
            pairs.append((conv.ready(x * np.float32(factor), y, None, False), y, factor))

    def often(run: Any) -> None:
        for _ in range(20):
            with in_turn():
                run()

    threads = [Thread(target=often, args=(run,)) for run, _, _ in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, y, factor in pairs:
        wanted = expected((given[0] * np.float32(factor), *given[1:]), where, False, False)
        assert_close(y, wanted, "float32")


def test_the_precision_is_that_of_the_call(card: Any) -> None:
    x, w = card.zeros((1, 1, 1, 2), "f4"), card.zeros((1, 1, 2, 2), "f4")
    conv = GemmConv(w, None, None, x.shape, *PIXEL)
    run = conv.ready(x, card.zeros((1, 1, 1, 2), "f4"), None, False)
    with using_precision("tf32"):
        run()
    run()
    assert [done.compute for done in card.standin.record.gemms] == ["TF32", "32F"]
