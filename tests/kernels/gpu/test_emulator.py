"""The emulator does what a card does, and sees what a card would silently get wrong."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import emulator
import ml_dtypes
import numpy as np
import pytest

from resnet_np.kernels.gpu import compiling

NUMBERS = Path(compiling.__file__).with_name("numbers.cuh").read_text("utf-8")

KERNELS = r"""
extern "C" __global__ void where(long long *y) {
    long long thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    long long block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    long long *mine = y + 7 * (block * (blockDim.x * blockDim.y * blockDim.z) + thread);
    mine[0] = threadIdx.x; mine[1] = threadIdx.y; mine[2] = threadIdx.z;
    mine[3] = blockIdx.x; mine[4] = blockIdx.y; mine[5] = blockIdx.z;
    mine[6] += 1;
}

extern "C" __global__ void reversed(const float *x, float *y) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

extern "C" __global__ void reversed_without_barrier(const float *x, float *y) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = s[63 - threadIdx.x];
}

// Right as long as each thread's neighbour comes before it.
extern "C" __global__ void shifted_without_barrier(const float *x, float *y) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = s[threadIdx.x ? threadIdx.x - 1 : 0];
}

// The second round's writes must wait for the first round's reads.
extern "C" __global__ void twice(float *y, long long waits) {
    __shared__ float s[64];
    float sum = 0;
    for (int round = 0; round < 2; round++) {
        s[threadIdx.x] = round;
        __syncthreads();
        sum += 10 * s[(threadIdx.x + 1) % 64];
        if (waits) __syncthreads();
    }
    y[threadIdx.x] = sum;
}

extern "C" __global__ void some_return_early(float *y) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers() {
    if (threadIdx.x == 0) __syncthreads();
    else __syncwarp();
}

extern "C" __global__ void warp_down(const double *x, double *y) {
    y[threadIdx.x] = __shfl_down_sync(0xffffffff, x[threadIdx.x], 3);
}
extern "C" __global__ void warp_xor(const double *x, double *y) {
    y[threadIdx.x] = __shfl_xor_sync(0xffffffff, x[threadIdx.x], 5);
}
extern "C" __global__ void warp_lane(const double *x, double *y) {
    y[threadIdx.x] = __shfl_sync(0xffffffff, x[threadIdx.x], 5);
}
extern "C" __global__ void warp_sum(const double *x, double *y) {
    double sum = x[threadIdx.x];
    for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
    y[threadIdx.x] = sum;
}

extern "C" __global__ void what_is_there(float *y) {
    __shared__ float s[32];
    y[blockIdx.x * 32 + threadIdx.x] = s[threadIdx.x];
    s[threadIdx.x] = 1;
}

extern "C" __global__ void mixed(double a, const float *x, long long n, double b, float *y) {
    y[0] = a * 1000 + b * 100 + n * 10 + (x ? x[0] : 0);
}

extern "C" __global__ void many(
    long long a, long long b, long long c, long long d, long long e, long long f, long long g,
    long long h, long long i, long long j, long long k, long long l, long long m, long long n,
    long long o, long long p, long long q, long long r, long long s, long long t, long long u,
    long long v, long long w, double d0, double d1, double d2, double d3, double d4, double d5,
    double d6, double d7, double *y
) {
    long long ints[] = {a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w};
    double doubles[] = {d0, d1, d2, d3, d4, d5, d6, d7};
    for (int at = 0; at < 23; at++) y[at] = ints[at];
    for (int at = 0; at < 8; at++) y[23 + at] = doubles[at];
}
"""

CONVERSIONS = r"""
extern "C" __global__ void widen(const Number *x, float *y, Index count) {
    for (Index i = first(); i < count; i += step()) y[i] = get(x[i]);
}
extern "C" __global__ void narrow(const float *x, Number *y, Index count) {
    for (Index i = first(); i < count; i += step()) put(y[i], x[i]);
}
"""


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    if emulator.COMPILER is None:
        assert not os.environ.get("CI"), "no g++ here"
        pytest.skip("no g++ here")


def run(name: str, blocks: Any, threads: Any, *arguments: Any) -> None:
    emulator.launch_source(KERNELS, ("-std=c++17",), name, blocks, threads, arguments)


def in_both_orders(name: str, threads: int, *inputs: np.ndarray) -> list[np.ndarray]:
    """What a kernel of one block writes into `threads` floats: threads in order, and backwards."""
    results = []
    for order in (nullcontext(), emulator.backwards()):
        y = np.full(threads, -7, inputs[0].dtype if inputs else np.float32)
        with order:
            run(name, (1,), (threads,), *inputs, y)
        results.append(y)
    return results


# --- threads and blocks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "threads"),
    [((1,), (1,)), ((3,), (5,)), ((2, 3), (4, 2)), ((2, 1, 3), (3, 4, 5)), ((1,), (1024,))],
)
def test_each_thread_runs_once_and_knows_where_it_is(blocks, threads):
    grid, block = ((*sizes, 1, 1)[:3] for sizes in (blocks, threads))
    y = np.zeros((*grid[::-1], *block[::-1], 7), np.int64)
    run("where", blocks, threads, y)
    bz, by, bx, z, y_, x = np.indices(y.shape[:-1])
    np.testing.assert_array_equal(y, np.stack([x, y_, z, bx, by, bz, np.ones_like(x)], axis=-1))


@pytest.mark.parametrize(
    ("blocks", "threads"), [((0,), (1,)), ((1,), (1025,)), ((1, 65536), (1,)), ((1,), (0,))]
)
def test_grids_that_no_card_runs_are_refused(blocks, threads):
    with pytest.raises(AssertionError):
        run("where", blocks, threads, np.zeros(7, np.int64))


def test_parameters_come_in_any_order():
    x, y = np.array([4], np.float32), np.zeros(1, np.float32)
    run("mixed", (1,), (1,), 1.0, x, 3, np.float64(2), y)
    assert y == 1234
    run("mixed", (1,), (1,), 1.0, None, np.int64(3), 2.0, y)
    assert y == 1230


def test_as_many_parameters_as_there_may_be():
    y = np.zeros(31)
    doubles = [value + 0.5 for value in range(8)]
    run("many", (1,), (1,), *range(100, 123), *doubles, y)
    assert y.tolist() == [*range(100, 123), *doubles]
    with pytest.raises(AssertionError):
        run("many", (1,), (1,), *range(24), *doubles, y)
    with pytest.raises(AssertionError):
        run("many", (1,), (1,), *range(23), *doubles, 0.5, y)


def test_arrays_must_be_contiguous():
    with pytest.raises(AssertionError, match="end to end"):
        run("reversed", (1,), (64,), np.zeros((64, 2), np.float32)[:, 0], np.zeros(64, np.float32))


def test_what_the_compiler_says_is_shown():
    with pytest.raises(RuntimeError, match="no_such_thing"):
        emulator.launch_source("int x = no_such_thing;", (), "f", (1,), (1,), ())


# --- barriers ------------------------------------------------------------------------------------


def test_a_barrier_parts_writing_from_reading():
    x = np.arange(64, dtype=np.float32)
    for y in in_both_orders("reversed", 64, x):
        np.testing.assert_array_equal(y, x[::-1])


def test_a_missing_barrier_is_seen():
    x = np.arange(64, dtype=np.float32)
    for y in in_both_orders("reversed_without_barrier", 64, x):
        assert np.isnan(y).sum() == 32
    in_order, backwards = in_both_orders("shifted_without_barrier", 64, x)
    assert in_order.tolist() == [0, *range(63)]
    assert np.isnan(backwards).sum() == 63


def test_a_missing_barrier_at_a_loop_s_end_is_seen():
    right = np.full(64, 10, np.float32)
    waiting: list[bool] = []
    not_waiting: list[bool] = []
    for waits, results in ((1, waiting), (0, not_waiting)):
        for order in (nullcontext(), emulator.backwards()):
            y = np.zeros(64, np.float32)
            with order:
                run("twice", (1,), (64,), y, waits)
            results.append(np.array_equal(y, right))
    assert all(waiting)
    assert not all(not_waiting)


def test_threads_that_are_done_hold_up_nobody():
    for y in in_both_orders("some_return_early", 64):
        assert (y[:40] == 1).all()
        assert (y[40:] == -7).all()


def test_threads_that_wait_for_ever_are_noticed():
    code = (
        "import emulator, test_emulator as t\n"
        "emulator.launch_source(t.KERNELS, ('-std=c++17',), 'two_barriers', (1,), (64,), ())"
    )
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == -signal.SIGABRT
    assert "a barrier that not all threads of the block reach" in done.stderr


def test_the_order_of_the_threads_is_put_back():
    with pytest.raises(KeyError), emulator.backwards():
        raise KeyError
    assert not emulator._backwards


# --- warps and shared memory ---------------------------------------------------------------------


LANE = np.arange(96) % 32
WARP = np.arange(96) - LANE


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("warp_down", WARP + np.where(LANE + 3 < 32, LANE + 3, LANE)),  # the last keep their own
        ("warp_xor", WARP + (LANE ^ 5)),
        ("warp_lane", WARP + 5),
    ],
)
def test_a_warp_exchanges_numbers(name, source):
    x = np.random.default_rng(0).standard_normal(96)
    for y in in_both_orders(name, 96, x):
        np.testing.assert_array_equal(y, x[source])


def test_a_warp_adds_up():
    x = np.random.default_rng(0).integers(0, 100, 96).astype(np.float64)
    for y in in_both_orders("warp_sum", 96, x):
        np.testing.assert_array_equal(y, np.repeat(x.reshape(3, 32).sum(axis=1), 32))


def test_shared_memory_is_nan_in_each_block():
    y = np.zeros(96, np.float32)
    run("what_is_there", (3,), (32,), y)
    assert np.isnan(y).all()


# --- numbers of 16 bits --------------------------------------------------------------------------

NARROW = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def convert(name: str, dtype: str, x: np.ndarray, y: np.ndarray) -> None:
    text = f"{NUMBERS}\n{CONVERSIONS}"
    emulator.launch_source(text, compiling.options(dtype), name, (8,), (256,), (x, y, x.size))


@pytest.mark.parametrize("dtype", NARROW)
def test_all_numbers_of_16_bits_are_widened(dtype):
    x = np.arange(2**16, dtype=np.uint16).view(NARROW[dtype])
    y = np.zeros(x.size, np.float32)
    convert("widen", dtype, x, y)
    np.testing.assert_array_equal(y, x.astype(np.float32))  # NaN equals NaN here
    zeros = x.astype(np.float32) == 0
    np.testing.assert_array_equal(np.signbit(y[zeros]), np.signbit(x.astype(np.float32)[zeros]))


def rounding_cases(dtype: np.dtype) -> np.ndarray:
    """All numbers of 16 bits, all ties between neighbours, the floats around both, any others."""
    positive = np.arange(2**15, dtype=np.uint16).view(dtype).astype(np.float32)
    numbers = np.sort(positive[np.isfinite(positive)])
    # Behind the largest, the next would be as far away: half way to it infinity begins.
    spaced = np.append(numbers.astype(np.float64), 2 * float(numbers[-1]) - float(numbers[-2]))
    ties = ((spaced[:-1] + spaced[1:]) / 2).astype(np.float32)
    exact = np.concatenate([numbers, ties])
    near = [np.nextafter(exact, np.float32(to)) for to in (-np.inf, np.inf)]
    random = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    special = np.array([0, np.inf, np.nan, 1e-45, 3.4028235e38], np.float32)
    low_nan = np.array([0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32)
    cases = np.concatenate([exact, *near, random, special, low_nan])
    return np.concatenate([cases, -cases])


@pytest.mark.parametrize("dtype", NARROW)
def test_rounding_is_to_the_nearest_and_ties_go_to_even(dtype):
    x = rounding_cases(NARROW[dtype])
    y = np.zeros(x.size, NARROW[dtype])
    convert("narrow", dtype, x, y)
    with np.errstate(all="ignore"):
        right = x.astype(NARROW[dtype])
    nan = np.isnan(x)
    np.testing.assert_array_equal(np.isnan(y.astype(np.float32)), nan)
    np.testing.assert_array_equal(y.view(np.uint16)[~nan], right.view(np.uint16)[~nan])
