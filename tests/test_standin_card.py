"""The stand-in for CuPy computes what NumPy computes, and is as strict as CuPy and CUDA."""

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from shutil import which
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from standins.card import FOLDER, stand_in

from resnet_np.kernels import array, get_array_module
from resnet_np.kernels.gpu import compiling

KERNELS = r"""
typedef long long Index;
extern "C" __global__ void scaled(const float *x, double by, float *y, Index count) {
    if (threadIdx.x < count) y[threadIdx.x] = x[threadIdx.x] * by;
}
extern "C" __global__ void beyond(float *y, Index place) { y[place] = 0; }
extern "C" __global__ void is_null(const int *x, float *y) { *y = x == 0; }
"""


@pytest.fixture
def card() -> Iterator[Any]:
    with stand_in() as cupy:
        yield cupy


@pytest.fixture
def module(card):
    if which("g++") is None:
        assert not os.environ.get("CI"), "no g++ here"
        pytest.skip("no g++ here")
    return card.RawModule(code=KERNELS, options=("-std=c++17",))


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- arrays --------------------------------------------------------------------------------------


def test_it_is_there_for_a_test_and_then_gone():
    def loaded() -> set[str]:
        return {n for n in sys.modules if n.split(".")[0] in ("cupy", "cupyx", "cupy_backends")}

    before = loaded()
    with stand_in() as first:
        kept = first.ones(3)
        assert sys.modules["cupy"] is first
    assert loaded() == before
    with stand_in() as second:
        assert type(second.ones(3)) is type(kept)
        assert second.standin.record.allocations == [24]


def test_an_array_of_the_card_is_none_of_numpy_s(card):
    x = card.ones(3)
    assert not isinstance(x, np.ndarray)
    assert type(x).__module__ == "cupy"
    assert get_array_module(x) is card
    assert card.get_array_module(np.ones(2), x) is card
    assert card.get_array_module(np.ones(2)) is np
    assert not hasattr(x, "ctypes")
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


def test_the_two_kinds_do_not_mix(card):
    x, host = card.ones(3), np.ones(3)
    y = card.ones(3)
    mixtures = [
        lambda: x + host,
        lambda: host + x,
        lambda: x @ host,
        lambda: x == host,
        lambda: x + np.array(1.0),
        lambda: x * [1, 2, 3],
        lambda: x + None,
        lambda: card.add(x, host),
        lambda: card.add(x, x, out=host),
        lambda: card.where(host > 0, x, x),
        lambda: card.concatenate([x, host]),
        lambda: card.ascontiguousarray(host),
        lambda: card.ones_like(host),
        lambda: y.__iadd__(host),
    ]
    for mixture in mixtures:
        with pytest.raises(TypeError):
            mixture()
    with pytest.raises(ValueError, match="non-scalar"):
        y[...] = host
    with pytest.raises(ValueError, match="non-scalar"):
        card.copyto(y, host)
    assert (y.get() == 1).all()


def test_nothing_comes_back_without_being_asked(card):
    x = card.ones(3)
    for convert in (np.asarray, np.array, np.stack, lambda x: np.array([x, x])):
        with pytest.raises(TypeError):
            convert(x)
    with pytest.raises(TypeError):
        np.copyto(np.zeros(3), x)
    assert card.standin.record.downloads == []


def test_numbers_of_numpy_may_meet_arrays_of_the_card(card):
    x = card.asarray(numbers(3))
    for y in (np.float32(2) * x, x * np.float32(2), np.exp(x), 2 * x, 1 - x, x**2):
        assert isinstance(y, card.ndarray)
        assert y.dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float64


def test_views_share_memory_and_copies_do_not(card):
    x = card.asarray(numbers(4, 6))
    views = [x.reshape(6, 4), x.T, x[1:], x[:, ::2], x.view(np.int32), x.ravel(), x[2], x[None]]
    views += [card.broadcast_to(x, (3, 4, 6)), card.expand_dims(x, 1), x[1, 2], x.swapaxes(0, 1)]
    views += [card.lib.stride_tricks.as_strided(x, (2, 2), (24, 4)), card.ascontiguousarray(x)]
    views += [card.asarray(x), x.astype(np.float32, copy=False), *card.split(x, 2)]
    copies = [x.copy(), x.T.reshape(4, 6), x[[0, 1]], x.astype(np.float32), +x, x.flatten()]
    copies += [card.array(x), card.ascontiguousarray(x.T), x[x > 0]]
    card.standin.record.reset()
    x.fill(7)
    assert all((v.view(np.float32).get() == 7).all() for v in views)
    assert not any((c.get() == 7).any() for c in copies)


def test_views_are_no_work(card):
    x = card.asarray(numbers(4, 6))
    card.standin.record.reset()
    assert x[1:].reshape(-1).T[3:5].data.ptr == x.data.ptr + (6 + 3) * 4
    assert card.standin.record == card.standin.Record()


def test_an_array_says_how_it_lies(card):
    x = card.empty((3, 4), np.float16)
    assert (x.shape, x.strides, x.ndim, x.size, len(x)) == ((3, 4), (8, 2), 2, 12, 3)
    assert (x.itemsize, x.nbytes, x.dtype) == (2, 24, np.float16)
    assert x.flags.c_contiguous
    assert x.T.flags.f_contiguous
    assert not x.T.flags.c_contiguous
    assert not x[:, 1:].flags["C_CONTIGUOUS"]
    assert x.data.ptr % 512 == 0


def test_what_was_not_written_is_nan(card):
    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        assert np.isnan(card.empty(100, dtype).get().astype(np.float32)).all()
    assert np.isnan(card.empty_like(card.zeros(3)).get()).all()
    assert card.empty(3, bool).get().tolist() == [True] * 3


def test_reductions_stay_on_the_card(card):
    x = card.asarray(numbers(3, 4))
    for total in (x.sum(), card.max(x), x.mean(), x[0, 0]):
        assert isinstance(total, card.ndarray)
        assert total.shape == ()
    card.standin.record.reset()
    assert float(x.max()) == numbers(3, 4).max()
    assert int(card.asarray(3)) == 3
    assert bool((x == x).all())
    assert x.sum().item() == pytest.approx(numbers(3, 4).sum(), rel=1e-6)
    assert len(card.standin.record.downloads) == 4
    assert card.standin.record.synchronisations == 4


def test_what_cupy_lacks_is_lacking(card):
    x = card.ones(3)
    for refused in (
        lambda: x.sum(initial=0),
        lambda: card.sum(x, where=x > 0),
        lambda: card.add(x, x, where=x > 0),
    ):
        with pytest.raises(TypeError, match="unexpected keyword"):
            refused()
    with pytest.raises(AttributeError):
        card.nditer  # noqa: B018


def test_setting_and_getting_are_strict(card):
    x = card.zeros((2, 3), np.float32)
    x.set(numbers(2, 3))
    out = np.zeros((2, 3), np.float32)
    assert x.get(out=out) is out
    assert (out == numbers(2, 3)).all()
    for wrong, error in (
        (numbers(3, 2), ValueError),
        (numbers(2, 3).astype(float), TypeError),
        ([1, 2], TypeError),
    ):
        with pytest.raises(error):
            x.set(wrong)
        with pytest.raises(error):
            x.get(out=wrong)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x.T.set(numbers(3, 2))


def test_numpy_s_arrays_as_indices_are_copied_to_the_card(card):
    x = card.asarray(numbers(5))
    card.standin.record.reset()
    assert (x[np.array([3, 1])].get() == numbers(5)[[3, 1]]).all()
    assert card.standin.record.uploads == [16]
    mask = x > 0
    card.standin.record.reset()
    assert (x[mask].get() == numbers(5)[numbers(5) > 0]).all()
    assert card.standin.record.synchronisations == 2  # the second is get()'s


def test_results_have_the_dtypes_that_they_have_on_a_card(card):
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        x = card.ones((40, 40), dtype)
        for y in (x * 2.0, x + 1, x @ x, x.sum(axis=0), x.mean(), card.exp(x), card.maximum(x, 0)):
            assert y.dtype == dtype
        x *= 0.5
        assert x.dtype == dtype
        # In 8 bits of mantissa a sum of ones would stop at 256.
        assert float(card.ones(10000, dtype).sum()) == float(np.float32(10000).astype(dtype))
    assert (card.ones(2, np.float32) * card.ones(2, np.float64)).dtype == np.float64
    x = card.ones(2, np.int32)
    with pytest.raises(TypeError):
        x += 0.5


# --- everything that kernels/array.py does -------------------------------------------------------


def on_card(card: Any, value: Any) -> Any:
    return card.asarray(value) if isinstance(value, np.ndarray) else value


def pairs() -> dict[str, tuple]:
    """Kernels of array.py with arguments."""
    x, w, b = numbers(2, 7, 6, 3), numbers(3, 3, 3, 4, seed=1), numbers(4, seed=2)
    conv = ((2, 1), ((1, 0), (1, 1)))
    gy = numbers(2, 3, 6, 4, seed=3)
    c = [numbers(3, seed=seed) for seed in range(4, 7)]
    var = numbers(3, seed=7) ** 2
    gx = numbers(2, 7, 6, 3, seed=8)
    pool = ((3, 2), (2, 2), ((1, 1), (0, 1)))
    _, index = array.max_pool(x, *pool)
    gp = numbers(*index.shape, seed=9)
    two, weights = numbers(5, 3, seed=10), abs(numbers(5, 3, seed=11))
    return {
        "conv2d": (x, w, b, *conv),
        "conv2d_gx": (gy, w, x.shape, *conv),
        "conv2d_gw": (gy, x, w.shape, *conv),
        "bias_gb": (gy,),
        "linear": (two, numbers(3, 4), b),
        "linear_gx": (two, numbers(4, 3)),
        "linear_gw": (two, weights),
        "batch_norm": (x, c[0], c[1], 1e-5, gx, True),
        "batch_norm_g": (gx, x, x, c[0], c[1], var, 1e-5, True, True),
        "fixed_batch_norm": (x, c[0], c[1], c[2], var, 1e-5, gx, True),
        "fixed_batch_norm_g": (gx, x, x, c[0], c[2], var, 1e-5, True, True),
        "add": (x, gx),
        "relu": (x,),
        "relu_gx": (gx, x),
        "max_pool": (x, *pool),
        "max_pool_gx": (gp, index, x.shape, *pool),
        "avg_pool": (x, *pool),
        "avg_pool_gx": (gp, x.shape, *pool),
        "global_avg_pool": (x,),
        "global_avg_pool_gx": (two, (5, 2, 2, 3)),
        "upsample_nearest": (x, (2, 3)),
        "upsample_nearest_gx": (numbers(2, 4, 6, 3), (2, 3)),
        "softmax": (two,),
        "softmax_cross_entropy": (two, weights),
        "softmax_cross_entropy_gx": (numbers(5), two, weights),
    }


@pytest.mark.parametrize("name", pairs())
def test_kernels_for_arrays_run_on_it(card, name):
    arguments = pairs()[name]
    right = getattr(array, name)(*arguments)
    found = getattr(array, name)(*(on_card(card, a) for a in arguments))
    for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (right, found)), strict=True):
        assert isinstance(b, card.ndarray)
        assert b.dtype == a.dtype
        np.testing.assert_array_equal(b.get(), a)


@pytest.mark.parametrize(
    ("name", "count", "options"),
    [
        ("sgd_step", 3, (0.1, 0.9, True, 1e-3)),
        ("rmsprop_step", 4, (0.1, 0.9, 1e-8, 0.9, 1e-3)),
        ("adam_step", 4, (3, 0.1, (0.9, 0.99), 1e-8, 1e-3, True)),
    ],
)
def test_optimizers_write_in_place_on_it(card, name, count, options):
    host = [[abs(numbers(6, seed=seed))] for seed in range(count)]
    device = [[card.asarray(x)] for (x,) in host]
    getattr(array, name)(*host, *options)
    getattr(array, name)(*device, *options)
    for (a,), (b,) in zip(host, device, strict=True):
        np.testing.assert_array_equal(b.get(), a)


# --- what happened -------------------------------------------------------------------------------


def test_what_happened_is_on_record(card, module):
    record = card.standin.record
    x = card.asarray(numbers(6))
    y = card.empty(6, np.float32)
    module.get_function("scaled")((2,), (32, 1), (x, 0.5, y, 6))
    np.testing.assert_array_equal(y.get(), numbers(6) / 2)
    y += x
    assert record.uploads == [24]
    assert record.downloads == [24]
    assert record.allocations == [24, 24]
    assert record.launches == [card.standin.Launch("scaled", (2,), (32, 1))]
    assert record.operations == ["add"]
    assert record.synchronisations == 1
    card.cuda.Device().synchronize()
    assert record.synchronisations == 2
    record.reset()
    assert record == card.standin.Record()


def test_the_product_s_kernels_run_on_it(card, module):
    from resnet_np.kernels.gpu import elementwise

    x = numbers(3, 5)
    np.testing.assert_array_equal(elementwise.relu(card.asarray(x)).get(), np.maximum(x, 0))
    assert [launch.name for launch in card.standin.record.launches] == ["relu"]
    assert compiling._module.cache_info().currsize == 1
    with stand_in():
        assert compiling._module.cache_info().currsize == 0


# --- kernels -------------------------------------------------------------------------------------


def test_a_kernel_s_arguments_must_be_what_it_reads(card, module):
    x, y, scaled = card.ones(6, np.float32), card.ones(6, np.float32), module.get_function("scaled")
    wrong: list[tuple[tuple, type[Exception]]] = [
        ((x, 0.5, y), ValueError),  # too few
        ((x, 0.5, y, 6, 6), ValueError),
        ((x, 1, y, 6), TypeError),  # an integer's bits are no double's
        ((x, 0.5, y, 6.0), TypeError),
        ((x, 0.5, 6, y), TypeError),
        ((x.astype(np.float64), 0.5, y, 6), TypeError),
        ((x, np.float32(0.5), y, 6), TypeError),  # of 32 bits
        ((x, 0.5, y, np.int32(6)), TypeError),
        ((x, 0.5, y, True), TypeError),
        ((x, 0.5, y, None), TypeError),
        ((np.ones(6, np.float32), 0.5, y, 6), TypeError),
        ((x[::2], 0.5, y, 3), ValueError),
        ((5, 0.5, y, 3), TypeError),  # no address
    ]
    for arguments, error in wrong:
        with pytest.raises(error):
            scaled((1,), (32,), arguments)
    scaled((1,), (32,), (x, np.float64(0.5), y, np.int64(6)))
    assert (y.get() == 0.5).all()


def test_zero_is_a_null_pointer(card, module):
    y = card.empty(1, np.float32)
    module.get_function("is_null")((1,), (1,), (0, y))
    assert float(y[0]) == 1


def test_grids_that_no_card_runs_are_refused(card, module):
    x, scaled = card.ones(6, np.float32), module.get_function("scaled")
    for grid, block in (
        ((0,), (1,)),
        ((1,), (1025,)),
        ((1, 65536), (1,)),
        ((1,), (64, 32)),
        ((), (1,)),
    ):
        with pytest.raises(RuntimeError, match="CUDA_ERROR"):
            scaled(grid, block, (x, 0.5, x, 6))
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NOT_FOUND"):
        module.get_function("no_such_kernel")


@pytest.mark.parametrize("place", [-1, 6])
def test_writing_beside_an_array_is_noticed(card, module, place):
    y = card.ones(6, np.float32)
    with pytest.raises(AssertionError, match="beyond writes beside its arrays"):
        module.get_function("beyond")((1,), (1,), (y, place))


# --- memory --------------------------------------------------------------------------------------


def test_memory_is_counted_and_ends(card):
    pool = card.get_default_memory_pool()
    x = card.empty(1000, np.uint8)
    assert (pool.used_bytes(), pool.free_bytes(), pool.total_bytes()) == (1024, 0, 1024)
    view = x[10:]
    del x
    assert pool.used_bytes() == 1024
    del view
    assert (pool.used_bytes(), pool.free_bytes()) == (0, 1024)
    y = card.empty(512, np.uint8)
    assert (pool.used_bytes(), pool.total_bytes()) == (512, 1024)
    free, total = card.cuda.Device().mem_info
    assert (free, total) == (card.standin.capacity - 1024, card.standin.capacity)
    pool.free_all_blocks()
    assert pool.total_bytes() == 512

    card.standin.capacity = 10_000
    message = r"Out of memory allocating 10,240 bytes \(allocated so far: 512 bytes\)\."
    with pytest.raises(card.cuda.memory.OutOfMemoryError, match=message):
        card.empty(10_000, np.uint8)
    pool.set_limit(size=5000)
    with pytest.raises(MemoryError, match="limit set to: 5,000 bytes"):
        card.empty(5_000, np.uint8)
    pool.set_limit(fraction=0.2)
    assert pool.get_limit() == 2000
    assert y.size == 512


def test_memory_that_is_given_back_goes_to_the_next_on_the_same_stream(card):
    x = card.full(100, 3, np.float32)
    place = x.data.ptr
    del x
    with card.cuda.Stream(non_blocking=True):
        assert card.empty(100, np.float32).data.ptr != place
    assert card.empty(99, np.float32).data.ptr != place
    y = card.empty(100, np.float32)
    assert y.data.ptr == place
    assert np.isnan(y.get()).all()
    del y
    card.get_default_memory_pool().free_all_blocks()
    x = card.ones(100, np.float32)
    assert (x.get() == 1).all()


def test_what_is_late_still_reads_memory_that_was_given_back(card):
    """On its own stream that is in order. On another one it is not, if there is no event."""
    from cupyx import empty_pinned

    stream, other = card.cuda.Stream(non_blocking=True), card.cuda.Stream(non_blocking=True)
    for waits in (True, False):
        with stream:
            x, y, pinned = card.empty(8), card.empty(8), empty_pinned(8)
            x.fill(1)
            card.multiply(x, 2, out=y)  # late
            place = x.data.ptr
            del x
            x = card.empty(8)
            assert x.data.ptr == place
        pinned[...] = 5
        if waits:
            other.wait_event(stream.record())
        x.set(pinned, stream=other)
        other.synchronize()
        stream.synchronize()
        assert (y.get() == 2).all()
        assert (x.get() == 5).all() == waits  # else the stream fills it with NaN after that


# --- matrix products -----------------------------------------------------------------------------

R_32F, R_64F, R_16F, R_16BF = 0, 1, 2, 14
TYPES = {R_32F: np.float32, R_64F: np.float64, R_16F: np.float16, R_16BF: ml_dtypes.bfloat16}


def gemm(
    card: Any,
    a: Any,
    b: Any,
    c: Any,
    *,
    m: int,
    n: int,
    k: int,
    transposed: tuple[int, int] = (0, 0),
    ld: tuple[int, int, int],
    factors: tuple[float, float] = (1.0, 0.0),
    compute: int = 68,
) -> None:
    """gemmEx on device arrays, whose dtypes say the types."""
    from cupy_backends.cuda.libs import cublas

    kind = np.float64 if compute == 70 else np.float32
    scalars = np.array(factors, kind)
    codes = {np.dtype(dtype): code for code, dtype in TYPES.items()}
    cublas.gemmEx(
        card.cuda.get_cublas_handle(),
        *transposed,
        m,
        n,
        k,
        scalars.ctypes.data,
        a.data.ptr,
        codes[a.dtype],
        ld[0],
        b.data.ptr,
        codes[b.dtype],
        ld[1],
        scalars.ctypes.data + scalars.itemsize,
        c.data.ptr,
        codes[c.dtype],
        ld[2],
        compute,
        -1,
    )


@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_reads_columns(card, transposed):
    m, n, k = 3, 4, 5
    a, b = numbers(m, k), numbers(k, n, seed=1)
    # Columns that lie one after the other are rows of the transpose. One more number in each.
    stored = [x if t else x.T for x, t in zip((a, b), transposed, strict=True)]
    padded = [np.full((len(x), x.shape[1] + 1), np.nan, np.float32) for x in stored]
    for x, place in zip(stored, padded, strict=True):
        place[:, :-1] = x
    c = np.full((n, m + 2), 7, np.float32)
    device = card.asarray(c)
    gemm(
        card,
        card.asarray(padded[0]),
        card.asarray(padded[1]),
        device,
        m=m,
        n=n,
        k=k,
        transposed=transposed,
        ld=(padded[0].shape[1], padded[1].shape[1], m + 2),
        factors=(2.0, 0.5),
    )
    result = device.get()
    np.testing.assert_allclose(result[:, :m], (2 * (a @ b) + 3.5).T, rtol=1e-6)
    assert (result[:, m:] == 7).all()
    assert card.standin.record.gemms == [
        card.standin.Gemm(m, n, k, "float32", "float32", "32F"),
    ]


@pytest.mark.parametrize(
    ("ab", "c", "compute"),
    [
        (np.float32, np.float32, 68),
        (np.float64, np.float64, 70),
        (np.float16, np.float16, 68),
        (np.float16, np.float32, 68),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16, 68),
        (ml_dtypes.bfloat16, np.float32, 68),
    ],
)
def test_gemm_adds_up_in_the_compute_type(card, ab, c, compute):
    a, b = numbers(300, 2).astype(ab), numbers(300, 2, seed=1).astype(ab)
    device = card.empty((2, 2), c)  # NaN, which beta = 0 does not read
    options: dict[str, Any] = {"m": 2, "n": 2, "k": 300, "transposed": (0, 1), "ld": (2, 2, 2)}
    gemm(card, card.asarray(a), card.asarray(b), device, compute=compute, **options)
    exact = b.astype(np.float64).T @ a.astype(np.float64)
    found = device.get().astype(np.float64)
    digits = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 1e-5, "float64": 1e-13}
    np.testing.assert_allclose(found, exact, rtol=digits[str(np.dtype(c))], atol=1e-5)


def test_tf32_keeps_ten_bits_of_what_is_multiplied(card):
    values = np.array([1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.14159265, np.inf, 1e-3], np.float32)
    one = card.ones((1, 1), np.float32)
    c = card.empty((6, 1), np.float32)
    for compute in (77, 68):
        gemm(card, one, card.asarray(values), c, m=1, n=6, k=1, ld=(1, 1, 1), compute=compute)
        found = c.get()[:, 0]
        if compute == 77:
            assert found[:3].tolist() == [1 + 2**-10, 1 + 2**-10, 1]
            np.testing.assert_allclose(found[3:], values[3:], rtol=2**-11)
            assert (found.view(np.uint32) & 0x1FFF == 0).all()
        else:
            np.testing.assert_array_equal(found, values)


def test_wrong_gemms_are_refused(card):
    x = card.ones((4, 4), np.float32)
    good: dict[str, Any] = {"m": 4, "n": 4, "k": 4, "ld": (4, 4, 4)}
    gemm(card, x, x, card.empty((4, 4), np.float32), **good)
    for ld in ((3, 4, 4), (4, 3, 4), (4, 4, 3)):
        with pytest.raises(RuntimeError, match="INVALID_VALUE"):
            gemm(card, x, x, x.copy(), **good | {"ld": ld})
    for ld in ((5, 4, 4), (4, 5, 4), (4, 4, 5)):  # the last column ends behind the array
        with pytest.raises(RuntimeError, match="IllegalAddress"):
            gemm(card, x[:, :4], x, x.copy(), **good | {"ld": ld, "k": 64, "m": 4, "n": 64})
    for a, c, compute in ((np.float64, np.float64, 68), (np.float32, np.float64, 70)):
        with pytest.raises(RuntimeError, match="NOT_SUPPORTED"):
            y = x.astype(a)
            gemm(card, y, y, x.astype(c), compute=compute, **good)


# --- streams -------------------------------------------------------------------------------------


def test_copies_on_a_stream_come_late(card):
    stream = card.cuda.Stream(non_blocking=True)
    pinned = np.frombuffer(card.cuda.alloc_pinned_memory(24), np.float32, 6)
    pinned[...] = numbers(6)
    x = card.empty(6, np.float32)
    x.set(pinned, stream=stream)
    assert np.isnan(x.get()).all()  # nobody waited
    stream.synchronize()
    assert (x.get() == numbers(6)).all()

    x.set(pinned, stream=stream)
    pinned[...] = 0  # too early
    stream.synchronize()
    assert (x.get() == 0).all()

    x.fill(5)
    out = np.zeros(6, np.float32)
    x.get(stream=stream, out=out, blocking=False)
    assert (out == 0).all()
    stream.synchronize()
    assert (out == 5).all()


def test_pinned_memory_that_is_given_back_goes_to_the_next(card):
    """Whatever copy still reads it."""
    from cupyx import empty_pinned

    stream, x = card.cuda.Stream(non_blocking=True), card.empty(8)
    pinned = empty_pinned(8)
    pinned[...] = 1
    x.set(pinned, stream=stream)
    address = pinned.ctypes.data
    assert card.get_default_pinned_memory_pool().n_free_blocks() == 0
    del pinned
    assert card.get_default_pinned_memory_pool().n_free_blocks() == 1
    other = empty_pinned(8)
    assert other.ctypes.data == address
    other[...] = 2
    stream.synchronize()
    assert (x.get() == 2).all()

    x.get(stream=stream, out=other, blocking=False)
    del other
    other = empty_pinned(8)
    other[...] = 7
    stream.synchronize()
    assert (other == 2).all()


def test_memory_that_is_not_pinned_is_read_at_once(card):
    host = numbers(6)
    with card.cuda.Stream(non_blocking=True) as stream:
        x = card.asarray(host)
    host[...] = 0
    stream.synchronize()
    assert (x.get() == numbers(6)).all()


def test_events_order_streams(card):
    stream, event = card.cuda.Stream(non_blocking=True), card.cuda.Event()
    pinned = np.frombuffer(card.cuda.alloc_pinned_memory(8), np.float64, 1)
    pinned[...] = 1
    x, later = card.zeros(1), card.zeros(1)
    with stream:
        x.set(pinned)
        event.record()
        later.set(pinned)
    assert not event.done
    assert float((x + 0)[0]) == 0
    card.cuda.get_current_stream().wait_event(event)
    assert event.done
    assert float((x + 0)[0]) == 1
    assert float((later + 0)[0]) == 0  # came after the event
    stream.record(event)
    event.synchronize()
    assert float((later + 0)[0]) == 1


def test_the_default_stream_waits_for_streams_that_are_not_free_of_it(card):
    pinned = np.frombuffer(card.cuda.alloc_pinned_memory(8), np.float64, 1)
    pinned[...] = 1
    x = card.zeros(1)
    stream = card.cuda.Stream()
    x.set(pinned, stream=stream)
    assert float(x[0]) == 1


def test_work_on_one_stream_is_done_in_order(card, module):
    scaled = module.get_function("scaled")
    with card.cuda.Stream(non_blocking=True) as stream:
        x = card.asarray(numbers(6))
        scaled((1,), (32,), (x, 0.5, x, 6))
        x += 1
        y = x * 2
        np.testing.assert_array_equal(y.get(), (numbers(6) / 2 + 1) * 2)
        assert stream.done


def test_each_thread_has_its_stream(card):
    seen = []
    stream = card.cuda.Stream(non_blocking=True)
    with stream:
        thread = threading.Thread(target=lambda: seen.append(card.cuda.get_current_stream()))
        thread.start()
        thread.join()
        assert card.cuda.get_current_stream() == stream
    assert seen == [card.cuda.Stream.null]
    assert card.cuda.get_current_stream() == card.cuda.Stream.null


# --- graphs --------------------------------------------------------------------------------------


def test_a_graph_does_again_what_was_captured(card, module):
    x, y = card.asarray(numbers(6)), card.empty(6, np.float32)
    with card.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        module.get_function("scaled")((1,), (32,), (x, 0.5, y, 6))
        y += 1
        z = y * 2
        graph = stream.end_capture()
    card.standin.record.reset()
    assert np.isnan(y.get()).all()  # it was not done
    for value in (numbers(6), numbers(6, seed=1)):
        x.set(value)
        graph.launch()
        np.testing.assert_array_equal(z.get(), (value / 2 + 1) * 2)
    assert card.standin.record.graphs == 2
    assert len(card.standin.record.launches) == 2
    assert card.standin.record.operations == ["add", "mul"] * 2


def test_a_graph_s_memory_must_still_be_there(card, module):
    x, y = card.ones(6, np.float32), card.empty(6, np.float32)
    with card.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        module.get_function("scaled")((1,), (32,), (x, 0.5, y, 6))
        graph = stream.end_capture()
    graph.launch()
    del x
    with pytest.raises(AssertionError, match="memory which was given back"):
        graph.launch()


def test_what_cannot_be_captured(card):
    x = card.ones((2, 2), np.float32)
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        card.cuda.Stream.null.begin_capture()
    stream = card.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    with stream:
        for refused, error, message in (
            (lambda: x.get(), RuntimeError, "D2H transfers are disallowed"),
            (lambda: float(x[0, 0]), RuntimeError, "D2H transfers are disallowed"),
            (lambda: card.asarray(numbers(2)), RuntimeError, "H2D transfers are disallowed"),
            (lambda: x @ x, NotImplementedError, "cuBLAS API during stream capture"),
            (lambda: card.matmul(x, x, out=x), NotImplementedError, "cuBLAS API"),
            (
                lambda: gemm(card, x, x, x, m=2, n=2, k=2, ld=(2, 2, 2)),
                NotImplementedError,
                "cuBLAS API",
            ),
            (stream.synchronize, RuntimeError, "StreamCaptureUnsupported"),
            (card.cuda.Device().synchronize, RuntimeError, "StreamCaptureUnsupported"),
        ):
            with pytest.raises(error, match=message):
                refused()
    stream.end_capture()


# --- bad circumstances ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no driver", "cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
        ("old driver", "cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
        ("no device", "cudaErrorNoDevice: no CUDA-capable device is detected"),
    ],
)
def test_without_a_card(card, what, message):
    x = card.ones(3)
    card.standin.pretend(what)
    for use in (
        lambda: card.zeros(3),
        lambda: card.asarray(numbers(3)),
        lambda: x + 1,
        card.cuda.Device,
        card.cuda.runtime.getDeviceCount,
        card.cuda.runtime.memGetInfo,
        card.cuda.Stream,
        lambda: card.cuda.alloc_pinned_memory(8),
    ):
        with pytest.raises(card.cuda.runtime.CUDARuntimeError, match=message):
            use()
    assert not card.is_available()
    assert (card.cuda.runtime.driverGetVersion() == 0) == (what == "no driver")


def test_without_cuda_s_libraries(card, module):
    x = card.ones((2, 2))
    card.standin.pretend("no cublas")
    with pytest.raises(ImportError, match="libcublas"):
        x @ x
    with pytest.raises(ImportError, match="libcublas"):
        card.cuda.get_cublas_handle()
    assert float((x + 1).sum()) == 8
    card.standin.pretend("no nvrtc")
    with pytest.raises(RuntimeError, match="libnvrtc"):
        module.get_function("scaled")
    with pytest.raises(RuntimeError, match="libnvrtc"):
        x + 1
    card.standin.pretend(None)
    module.get_function("scaled")


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(FOLDER), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )


def test_a_process_of_its_own_takes_it_from_its_path():
    code = "import cupy; print(float((cupy.ones(3) + 1).sum()), cupy.standin.record.downloads)"
    assert in_a_process(code).stdout == "6.0 [8]\n"
    for name, value, message in (
        ("CUPY_STANDIN", "broken", "Failed to import CuPy"),
        ("CUPY_STANDIN", "no device", "cudaErrorNoDevice"),
        ("CUPY_STANDIN_CAPACITY", "100", "OutOfMemoryError"),
    ):
        done = in_a_process(code, **{name: value})
        assert done.returncode == 1
        assert message in done.stderr
    code = "import cupy; print(cupy.cuda.Device().compute_capability)"
    assert in_a_process(code, CUPY_STANDIN_CAPABILITY="75").stdout == "75\n"


def test_addresses_of_pinned_memory_are_its_own(card):
    memory = card.cuda.alloc_pinned_memory(8)
    np.frombuffer(memory, np.float64)[...] = 2.5
    assert ctypes.c_double.from_address(memory.ptr).value == 2.5
    assert memory.size() == 512  # in blocks
