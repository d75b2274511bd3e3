// CUDA's words for a C++ compiler: kernels run on the processor, block after block.
//
// The threads of a block are fibers of one thread: each runs until it waits at a barrier, then the
// next one runs. So a kernel that lacks a barrier reads what another thread has not written yet, in
// one order of the fibers or in the other: tests run both. Shared memory is filled with NaN before
// each block. Included in front of a kernel's file; `launch` at the end is what Python calls.

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

struct Dim {
    unsigned x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))

static float emulated_anchor __attribute__((section("shared_memory"), used));
extern char __start_shared_memory[], __stop_shared_memory[];

// --- fibers --------------------------------------------------------------------------------------

enum Waiting { NOTHING, BLOCK, WARP, FINISHED };
struct Fiber {
    jmp_buf place;  // where it goes on
    bool began;
    std::vector<char> stack;
    Waiting waiting;
    Dim index;
};
static std::vector<Fiber> fibers;  // kept from block to block: to make one takes long
static size_t running;
static jmp_buf scheduler;

static void wait_at(Waiting barrier) {
    fibers[running].waiting = barrier;
    if (!_setjmp(fibers[running].place)) _longjmp(scheduler, 1);
}
static void __syncthreads() { wait_at(BLOCK); }
static void __syncwarp(unsigned = 0xffffffff) { wait_at(WARP); }

// Open the barrier of the fibers [begin, end) if all that still run are there.
static bool open(Waiting barrier, size_t begin, size_t end) {
    bool any = false;
    for (size_t i = begin; i < end; i++) {
        if (fibers[i].waiting == FINISHED) continue;
        if (fibers[i].waiting != barrier) return false;
        any = true;
    }
    if (!any) return false;
    for (size_t i = begin; i < end; i++)
        if (fibers[i].waiting == barrier) fibers[i].waiting = NOTHING;
    return true;
}

// --- what warps exchange -------------------------------------------------------------------------

static double exchanged[2048];

template <typename T>
static T from_lane(T value, int lane, bool inside) {
    exchanged[running] = value;
    __syncwarp();
    T result = inside ? (T)exchanged[running / 32 * 32 + lane] : value;
    __syncwarp();
    return result;
}
template <typename T>
static T __shfl_down_sync(unsigned, T value, unsigned by, int = 32) {
    int lane = running % 32 + by;
    return from_lane(value, lane, lane < 32);
}
template <typename T>
static T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    return from_lane(value, (running % 32) ^ mask, true);
}
template <typename T>
static T __shfl_sync(unsigned, T value, int lane, int = 32) {
    return from_lane(value, lane, true);
}

// --- arithmetic ----------------------------------------------------------------------------------

static float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static float rsqrtf(float x) { return 1 / sqrtf(x); }
static double rsqrt(double x) { return 1 / sqrt(x); }
template <typename T>
static T min(T a, T b) { return b < a ? b : a; }
template <typename T>
static T max(T a, T b) { return a < b ? b : a; }
template <typename T>
static T __ldg(const T *place) { return *place; }

// The two instructions that numbers.cuh spells in the card's assembler.
static float widened_half(unsigned short bits) {
    _Float16 x;
    memcpy(&x, &bits, 2);
    return x;
}
static unsigned short rounded_half(float x) {
    _Float16 narrow = (_Float16)x;
    unsigned short bits;
    memcpy(&bits, &narrow, 2);
    return bits;
}

// --- launching -----------------------------------------------------------------------------------

// Kernels take pointers, 64-bit integers and doubles. By the calling conventions of x86-64 and of
// 64-bit ARM the first two travel together and apart from the third: so one type of function will
// do for all, whatever the order in which a kernel names its parameters.
typedef int64_t I;
typedef double D;
typedef void (*Kernel)(I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I, I,
                       D, D, D, D, D, D, D, D);
static Kernel kernel;
static const I *i;
static const D *d;

static void run_thread() {
    kernel(i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11], i[12], i[13],
           i[14], i[15], i[16], i[17], i[18], i[19], i[20], i[21], i[22], i[23],
           d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
}

static void run_blocks() {
    for (;;) {  // in the next block, and the next launch, it goes on here
        run_thread();
        wait_at(FINISHED);
    }
}

// Let a fiber go on to where it waits next.
static __attribute__((noinline)) void resume(size_t f) {
    Fiber &fiber = fibers[f];
    running = f;
    threadIdx = fiber.index;
    if (_setjmp(scheduler)) return;
    if (fiber.began) _longjmp(fiber.place, 1);
    fiber.began = true;
    fiber.stack.resize(64 * 1024);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = fiber.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, run_blocks, 0);
    setcontext(&context);
}

static void run_block(size_t count, bool backwards) {
    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    for (size_t f = 0; f < count; f++) {
        fibers[f].waiting = NOTHING;
        fibers[f].index = {(unsigned)(f % blockDim.x), (unsigned)(f / blockDim.x % blockDim.y),
                           (unsigned)(f / blockDim.x / blockDim.y)};
    }
    for (;;) {
        bool ran = false;
        for (size_t n = 0; n < count; n++) {
            size_t f = backwards ? count - 1 - n : n;
            if (fibers[f].waiting != NOTHING) continue;
            resume(f);
            ran = true;
        }
        bool opened = open(BLOCK, 0, count);
        for (size_t warp = 0; warp < count; warp += 32)
            opened |= open(WARP, warp, warp + 32 < count ? warp + 32 : count);
        if (opened) continue;
        if (ran) continue;
        for (size_t f = 0; f < count; f++)
            if (fibers[f].waiting != FINISHED) {
                fprintf(stderr, "a barrier that not all threads of the block reach\n");
                abort();
            }
        return;
    }
}

extern "C" void launch(void *function, const unsigned *grid, const unsigned *block,
                       const I *integers, const D *doubles, int backwards) {
    kernel = (Kernel)function;
    i = integers;
    d = doubles;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    size_t count = block[0] * block[1] * block[2];
    if (fibers.size() < count) fibers.resize(count);
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                run_block(count, backwards);
            }
}
