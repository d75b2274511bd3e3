"""Convolution by im2col and matrix products: the two kernels alone, then the whole of it."""

import math
from collections.abc import Callable
from typing import Any

import emulator
import numpy as np
import pytest
from agreement import DTYPES, assert_close, in_double, numbers

from resnet_np.kernels import NO_PADDING, Padding, Pair, array
from resnet_np.kernels.gpu import convolution, packs
from resnet_np.kernels.gpu.convolution import Window, patches

Case = tuple[tuple[int, ...], int, Pair, Pair, Padding]  # x's shape, K, size, stride, padding

CASES: dict[str, Case] = {
    "1x1": ((3, 4, 5, 6), 7, (1, 1), (1, 1), NO_PADDING),
    "1x1, stride 2": ((2, 5, 4, 8), 3, (1, 1), (2, 2), NO_PADDING),
    "1x1, padded": ((2, 3, 2, 4), 4, (1, 1), (1, 1), ((1, 0), (0, 2))),
    "3x3": ((3, 7, 6, 8), 5, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "3x3, stride 2": ((2, 8, 9, 16), 4, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "3x3, stride 3 and 1": ((2, 9, 7, 3), 2, (3, 3), (3, 1), ((0, 2), (2, 1))),
    "7x7, stride 2": ((2, 13, 12, 3), 8, (7, 7), (2, 2), ((3, 3), (3, 3))),
    "5x3, stride 1 and 2": ((3, 8, 9, 5), 3, (5, 3), (1, 2), ((2, 1), (0, 1))),
    "2x2, gaps between": ((2, 9, 9, 2), 3, (2, 2), (4, 3), NO_PADDING),
    "as large as the image": ((2, 4, 3, 8), 5, (4, 3), (1, 1), NO_PADDING),
    "wide border": ((1, 2, 3, 4), 2, (3, 3), (2, 2), ((4, 3), (5, 2))),
    "more channels than threads": ((1, 2, 3, 1028), 2, (2, 1), (1, 1), NO_PADDING),
    "one pixel": ((1, 1, 1, 1), 1, (1, 1), (1, 1), NO_PADDING),
    "no images": ((0, 4, 4, 3), 2, (3, 3), (1, 1), NO_PADDING),
}
WORKSPACES = (1, 2000, 8000, convolution.WORKSPACE_BYTES)  # a row at a time, some, images, all

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def window_of(case: Case) -> Window:
    x_shape, _, size, stride, padding = case
    return Window(x_shape, size, stride, padding)


# --- the kernels alone ---------------------------------------------------------------------------


def guarded(shape: tuple[int, ...], like: Any) -> tuple[Any, Any]:
    """An array of NaN, and the larger one that it lies in the middle of."""
    store = np.full(math.prod(shape) + 128, np.nan, like.dtype)
    start = 64 - store.ctypes.data % 16 // store.itemsize  # on a pack, whatever NumPy gives
    return store[start : start + math.prod(shape)].reshape(shape), store


def untouched(store: Any, view: Any) -> bool:
    start = (view.ctypes.data - store.ctypes.data) // store.itemsize
    outside = np.concatenate([store[:start], store[start + view.size :]])
    return bool(np.isnan(outside).all())


def widths(channels: int, dtype: str) -> list[int]:
    """How many numbers a thread may move at once, where arrays begin on a pack."""
    itemsize = numbers(np.random.default_rng(0), (1,), dtype).itemsize
    wide = packs.PACK // itemsize
    return [1, wide] if channels % wide == 0 else [1]


def lay_out(window: Window, x: Any, part: slice, fields: Any, width: int) -> None:
    """As `convolution.im2col`."""
    _, h, w, c = x.shape
    (p, q), (r, s) = window.outputs, window.size
    (top, _), (left, _) = window.padding
    emulator.launch(
        "im2col.cu", packs.variant("im2col", width), x.dtype,
        (part.stop - part.start, r), packs.block(s * c // width, q),
        x, fields, part.start, h, w, c, p, q, s, *window.stride, top, left,
    )  # fmt: skip


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_im2col(case: Case, dtype: str) -> None:
    window = window_of(case)
    x, _ = guarded(case[0], numbers(np.random.default_rng(0), (1,), dtype))
    x[...] = numbers(np.random.default_rng(1), case[0], dtype)
    expected = array.im2col(array._pad(x, window.padding), window.size, window.stride)
    p, q = window.outputs
    rows = len(x) * p
    for width in widths(x.shape[3], dtype):
        for start, stop in {(0, rows), (rows // 3, (rows + 1) // 2), (rows - 1, rows)}:
            if start >= stop or start < 0:
                continue
            part = slice(start, stop)
            fields, store = guarded(((part.stop - part.start) * q, window.field), x)
            with emulator.backwards():
                lay_out(window, x, part, fields, width)
            wanted = expected[part.start * q : part.stop * q]
            np.testing.assert_array_equal(fields.astype("f8"), wanted.astype("f8"))
            assert untouched(store, fields)


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_col2im(case: Case, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    window = window_of(case)
    (n, _, w, c), (p, q), (r, s) = window.x_shape, window.outputs, window.size
    (top, _), (left, _) = window.padding
    fields = numbers(np.random.default_rng(2), (n, p, q, window.field), dtype)
    identity = np.eye(window.field).reshape(r, s, c, window.field)
    expected = array.conv2d_gx(fields.astype("f8"), identity, window.x_shape, *case[3:])
    others = numbers(np.random.default_rng(3), window.x_shape, dtype)
    for width, workspace in ((wide, ws) for wide in widths(c, dtype) for ws in (1, 3000, 2**20)):
        monkeypatch.setattr(convolution, "WORKSPACE_BYTES", workspace)
        for patch in patches(window, fields.itemsize):
            met, _ = guarded(fields[patch.images, patch.outputs].shape, fields)
            met[...] = fields[patch.images, patch.outputs]
            wanted = expected[patch.images, patch.rows]
            gx, store = guarded(wanted.shape, fields)
            gx[...] = residual = others[patch.images, patch.rows]
            for add in (None, gx):
                emulator.launch(
                    "im2col.cu", packs.variant("col2im", width), fields.dtype,
                    (gx.shape[0] * gx.shape[1],), packs.block(c // width, w),
                    met, add, gx, patch.rows.start, gx.shape[1], w, c, patch.outputs.start,
                    met.shape[1], q, r, s, *window.stride, top, left,
                )  # fmt: skip
                assert_close(gx, wanted, dtype)
                gx[...], wanted = residual, wanted + residual.astype("f8")
            assert untouched(store, gx)


# --- how it is cut -------------------------------------------------------------------------------


@cases
@pytest.mark.parametrize("workspace", WORKSPACES)
def test_everything_is_laid_out_once(
    case: Case, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "WORKSPACE_BYTES", workspace)
    window = window_of(case)
    n, h = window.x_shape[:2]
    p = window.outputs[0]
    rows = [row for part in window.parts(4) for row in range(part.start, part.stop)]
    assert rows == list(range(n * p))
    pixels = [
        (image, row)
        for patch in patches(window, 4)
        for image in range(n)[patch.images]
        for row in range(h)[patch.rows]
    ]
    assert pixels == [(image, row) for image in range(n) for row in range(h)]


def test_a_patch_has_the_windows_that_meet_it() -> None:
    # Rows 0 to 8; windows of 3 rows at -1, 1, 3, 5, 7.
    window = Window((1, 9, 9, 1), (3, 3), (2, 2), ((1, 1), (1, 1)))
    for rows, outputs in (
        (slice(0, 1), slice(0, 1)),
        (slice(1, 2), slice(0, 2)),
        (slice(2, 5), slice(1, 3)),
        (slice(3, 6), slice(1, 4)),
        (slice(8, 9), slice(4, 5)),
    ):
        assert convolution._meeting(window, rows) == outputs
    gaps = Window((1, 9, 1, 1), (1, 1), (4, 1), NO_PADDING)  # windows at 0, 4, 8
    met = convolution._meeting(gaps, slice(1, 4))
    assert met.start == met.stop


def test_parts_are_few_and_equal() -> None:
    assert convolution._equal_parts(10, 4) == [slice(0, 3), slice(3, 6), slice(6, 10)]
    assert convolution._equal_parts(8, 4) == [slice(0, 4), slice(4, 8)]
    assert convolution._equal_parts(3, 100) == [slice(0, 3)]
    assert convolution._equal_parts(0, 4) == []


# --- convolution ---------------------------------------------------------------------------------


def inputs(case: Case, dtype: str) -> tuple[Any, ...]:
    """(x, w, b, gy)."""
    x_shape, k, size, _, _ = case
    rng = np.random.default_rng(3)
    gy_shape = (x_shape[0], *window_of(case).outputs, k)
    shapes = x_shape, (*size, x_shape[3], k), (k,), gy_shape
    return tuple(numbers(rng, shape, dtype) for shape in shapes)


@cases
@pytest.mark.parametrize(("dtype", "workspace"), [*zip(DTYPES, WORKSPACES, strict=True)])
def test_conv2d(
    card: Any, case: Case, dtype: str, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "WORKSPACE_BYTES", workspace)
    x, w, b, gy = inputs(case, dtype)
    cx, cw, cb, cgy = (card.asarray(value) for value in (x, w, b, gy))
    x, w, b, gy = in_double(x, w, b, gy)
    where = case[3:]
    y = convolution.conv2d(cx, cw, cb, *where)
    assert (y.dtype, cx.dtype) == (cgy.dtype, cgy.dtype)
    assert_close(y, array.conv2d(x, w, b, *where), dtype)
    assert_close(convolution.conv2d(cx, cw, None, *where), array.conv2d(x, w, None, *where), dtype)
    gx = convolution.conv2d_gx(cgy, cw, x.shape, *where)
    assert_close(gx, array.conv2d_gx(gy, w, x.shape, *where), dtype)
    more = array.conv2d_gx(gy, w, x.shape, *where, residual=x)
    assert_close(convolution.conv2d_gx(cgy, cw, x.shape, *where, residual=cx), more, dtype)
    over = cx.copy()
    assert convolution.conv2d_gx(cgy, cw, x.shape, *where, residual=over, out=over) is over
    assert_close(over, more, dtype)
    gw = convolution.conv2d_gw(cgy, cx, w.shape, *where)
    assert gw.dtype == ("float64" if dtype == "float64" else "float32")
    assert_close(gw, array.conv2d_gw(gy, x, w.shape, *where), dtype)


def each_direction(case: Case, arrays: tuple[Any, ...]) -> dict[str, Callable[..., Any]]:
    x, w, b, gy = arrays
    where = case[3:]
    return {
        "y": lambda **out: convolution.conv2d(x, w, b, *where, **out),
        "gx": lambda **out: convolution.conv2d_gx(gy, w, x.shape, *where, **out),
        "gw": lambda **out: convolution.conv2d_gw(gy, x, w.shape, *where, **out),
    }


@pytest.mark.parametrize("name", ["1x1", "3x3, stride 2", "5x3, stride 1 and 2"])
def test_out_and_arrays_with_gaps(card: Any, name: str) -> None:
    case = CASES[name]
    arrays = tuple(card.asarray(value) for value in inputs(case, "float32"))
    before = [value.get() for value in arrays]

    def scattered(value: Any) -> Any:
        store = card.full(tuple(2 * size for size in reversed(value.shape)), np.nan, "f4")
        view = store[tuple(slice(None, None, 2) for _ in value.shape)].T
        view[...] = value
        return view

    apart = each_direction(case, tuple(map(scattered, arrays)))
    for direction, run in each_direction(case, arrays).items():
        expected = run()
        out = card.full(expected.shape, np.nan, "f4")
        assert run(out=out) is out
        np.testing.assert_array_equal(out.get(), expected.get())
        np.testing.assert_array_equal(apart[direction]().get(), expected.get())
        with pytest.raises(ValueError, match="out must be a contiguous array"):
            run(out=card.zeros(expected.shape, "f8"))
    for value, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(value.get(), was)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision(card: Any, dtype: str) -> None:
    """Float32 parameters are rounded to 16 bits for the product, and their gradient is float32."""
    case = CASES["3x3"]
    x, w, b, gy = (card.asarray(value) for value in inputs(case, dtype))
    half = each_direction(case, (x, w, b, gy))
    mixed = each_direction(case, (x, w.astype("f4") * (1 + 2**-14), b.astype("f4"), gy))
    for direction, run in half.items():
        got = mixed[direction]()
        assert got.dtype == ("float32" if direction == "gw" else x.dtype)
        np.testing.assert_array_equal(got.get(), run().get())


def test_a_gradient_of_weights_is_added_up_in_float32(
    card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, gy = card.ones((1, 6, 1000, 1), "f2"), card.ones((1, 3, 1000, 1), "f2")
    for workspace in (1, 5000, 10**6):
        monkeypatch.setattr(convolution, "WORKSPACE_BYTES", workspace)
        gw = convolution.conv2d_gw(gy, x, (1, 1, 1, 1), (2, 1), NO_PADDING)
        assert float(gw.get().item()) == 3000  # in halves, the sum would stop at 2048


@cases
@pytest.mark.parametrize("workspace", WORKSPACES)
def test_the_workspace_is_bounded(
    card: Any, case: Case, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "WORKSPACE_BYTES", workspace)
    arrays = tuple(card.asarray(value) for value in inputs(case, "float32"))
    window = window_of(case)
    row = 4 * window.outputs[1] * window.field
    meeting_a_row = -(-window.size[0] // window.stride[0])
    for direction, run in each_direction(case, arrays).items():
        shape = {"y": arrays[3].shape, "gx": arrays[0].shape, "gw": arrays[1].shape}[direction]
        out = card.zeros(shape, "f4")
        card.standin.record.reset()
        run(out=out)
        taken = sum(card.standin.record.allocations)
        if window.is_pixel:
            assert taken == 0
        assert taken <= max(workspace, row * (meeting_a_row if direction == "gx" else 1))


def test_where_fields_are_pixels_there_is_one_product(card: Any) -> None:
    case = CASES["1x1"]
    arrays = tuple(card.asarray(value) for value in inputs(case, "float32"))
    for direction, run in each_direction(case, arrays).items():
        card.standin.record.reset()
        run()
        names = [launch.name for launch in card.standin.record.launches]
        assert names == (["finish"] if direction == "y" else [])
        assert len(card.standin.record.gemms) == 1


def test_channels_are_moved_in_packs_where_they_can_be(card: Any) -> None:
    for name, dtype, suffix in (
        ("3x3", "float32", "_wide"),
        ("3x3", "float16", "_wide"),
        ("7x7, stride 2", "float32", ""),
        ("wide border", "float16", ""),
        ("wide border", "float32", "_wide"),
    ):
        arrays = tuple(card.asarray(value) for value in inputs(CASES[name], dtype))
        for run in each_direction(CASES[name], arrays).values():
            run()
        names = {launch.name for launch in card.standin.record.launches}
        assert {f"im2col{suffix}", f"col2im{suffix}"} <= names
        assert not {"im2col", "im2col_wide"} <= names
        card.standin.record.reset()


def test_block_sizes() -> None:
    assert packs.block(64, 100) == (64, 4)
    assert packs.block(24, 100) == (24, 10)
    assert packs.block(700, 100) == (234, 1)
    assert packs.block(3, 2) == (3, 2)
    assert packs.block(256, 1) == (256, 1)
    assert packs.block(257, 5) == (129, 1)
