// Pooling and up-sampling, forward and back: each number is made of a few others of its channel.
//
// Sizes have the letters of the whole project. H, W: the pixels of the larger array, on which the
// windows lie. P, Q: those of the smaller one, a pixel for each window. R, S: a window's size.
// Windows are `down` and `across` pixels apart, and the first begins `top` and `left` pixels
// outside the image.
//
// A block makes one row of pixels of one image of the result, or a part of it. Its threads are
// channels (x) by pixels (y), so that neighbours read and write neighbouring numbers. Each number
// is written by one thread, once: on the way back, too, a pixel collects from all windows that it
// was part of. Were each window to give to its pixels, two threads could add to one at a time.

// --- which row, and which pixels of it -----------------------------------------------------------

// The image and the row in it, of `rows`, that the block is at work on.
__device__ inline Index image(Index rows) { return blockIdx.x / (unsigned)rows; }
__device__ inline Index row(Index rows) { return blockIdx.x % (unsigned)rows; }

// The thread's first pixel in the row, and how far it is to the next.
__device__ inline Index first_pixel() { return (Index)blockIdx.y * blockDim.y + threadIdx.y; }
__device__ inline Index pixel_step() { return (Index)gridDim.y * blockDim.y; }

// Where the number x[n, h, w, c] lies in an array [N, H, W, C].
__device__ inline Index place(Index n, Index h, Index w, Index c, Index H, Index W, Index C) {
    return ((n * H + h) * W + w) * C + c;
}

// --- windows -------------------------------------------------------------------------------------

// The places first, first + 1, ... end - 1 on one axis.
struct Span {
    Index first, end;
};

// The pixels of a window that lie inside the image, along one axis.
__device__ inline Span window(Index p, Index size, Index stride, Index border, Index pixels) {
    Index start = p * stride - border;
    return {max(start, (Index)0), min(start + size, pixels)};
}

// The windows that a pixel is part of: p * stride <= h + border < p * stride + size. Whoever
// divides does it in 32 bits, which will do for a side of an image: in 64 it takes many times as
// long.
__device__ inline Span windows_of(Index h, int size, int stride, Index border, Index windows) {
    int place = h + border;
    int first = place < size ? 0 : (place - size) / stride + 1;
    return {first, min((Index)(place / stride + 1), windows)};
}

// --- the largest ---------------------------------------------------------------------------------

// x[N, H, W, C] -> y[N, P, Q, C] and, if wanted, index[N, P, Q, C]: which tap, r * S + s, it was.
// NaN wins over all, and among equals the first. Where nothing is larger than minus infinity, the
// index is 0.
extern "C" __global__ void max_pool(const Number *x, Number *y, int *index, Index H, Index W,
                                    Index C, Index P, Index Q, Index R, Index S, Index down,
                                    Index across, Index top, Index left) {
    Index n = image(P), p = row(P);
    Span rows = window(p, R, down, top, H);
    for (Index q = first_pixel(); q < Q; q += pixel_step()) {
        Span columns = window(q, S, across, left, W);
        for (Index c = threadIdx.x; c < C; c += blockDim.x) {
            Sum largest = minus_infinity();
            int tap = 0;
            for (Index h = rows.first; h < rows.end; h++)
                for (Index w = columns.first; w < columns.end; w++) {
                    Sum value = get(x[place(n, h, w, c, H, W, C)]);
                    if (value > largest || value != value) {  // the latter is true for NaN alone
                        largest = value;
                        tap = (h + top - p * down) * S + (w + left - q * across);
                    }
                }
            Index at = place(n, p, q, c, P, Q, C);
            put(y[at], largest);
            if (index) index[at] = tap;
        }
    }
}

// gx[N, H, W, C]: each pixel's sum of gy[N, P, Q, C] over the windows in which it was the largest.
// The last window comes first, which is the order of rising taps, in which array.py adds.
extern "C" __global__ void max_pool_gx(const Number *gy, const int *index, Number *gx, Index H,
                                       Index W, Index C, Index P, Index Q, Index R, Index S,
                                       Index down, Index across, Index top, Index left) {
    Index n = image(H), h = row(H);
    Span rows = windows_of(h, R, down, top, P);
    for (Index w = first_pixel(); w < W; w += pixel_step()) {
        Span columns = windows_of(w, S, across, left, Q);
        for (Index c = threadIdx.x; c < C; c += blockDim.x) {
            Sum total = 0;
            for (Index p = rows.end - 1; p >= rows.first; p--)
                for (Index q = columns.end - 1; q >= columns.first; q--) {
                    Index tap = (h + top - p * down) * S + (w + left - q * across);
                    Index at = place(n, p, q, c, P, Q, C);
                    if (index[at] == tap) total += get(gy[at]);
                }
            put(gx[place(n, h, w, c, H, W, C)], total);
        }
    }
}

// --- the mean ------------------------------------------------------------------------------------

// x[N, H, W, C] -> y[N, P, Q, C]: the mean over the pixels of the window that lie in the image.
extern "C" __global__ void avg_pool(const Number *x, Number *y, Index H, Index W, Index C, Index P,
                                    Index Q, Index R, Index S, Index down, Index across, Index top,
                                    Index left) {
    Index n = image(P), p = row(P);
    Span rows = window(p, R, down, top, H);
    for (Index q = first_pixel(); q < Q; q += pixel_step()) {
        Span columns = window(q, S, across, left, W);
        Sum area = (rows.end - rows.first) * (columns.end - columns.first);
        for (Index c = threadIdx.x; c < C; c += blockDim.x) {
            Sum total = 0;
            for (Index h = rows.first; h < rows.end; h++)
                for (Index w = columns.first; w < columns.end; w++)
                    total += get(x[place(n, h, w, c, H, W, C)]);
            put(y[place(n, p, q, c, P, Q, C)], total / area);
        }
    }
}

// gx[N, H, W, C]: from each window that the pixel was part of, gy[N, P, Q, C] over its area; in
// the same order as in max_pool_gx.
extern "C" __global__ void avg_pool_gx(const Number *gy, Number *gx, Index H, Index W, Index C,
                                       Index P, Index Q, Index R, Index S, Index down, Index across,
                                       Index top, Index left) {
    Index n = image(H), h = row(H);
    Span rows = windows_of(h, R, down, top, P);
    for (Index w = first_pixel(); w < W; w += pixel_step()) {
        Span columns = windows_of(w, S, across, left, Q);
        for (Index c = threadIdx.x; c < C; c += blockDim.x) {
            Sum total = 0;
            for (Index p = rows.end - 1; p >= rows.first; p--)
                for (Index q = columns.end - 1; q >= columns.first; q--) {
                    Span high = window(p, R, down, top, H), wide = window(q, S, across, left, W);
                    Sum area = (high.end - high.first) * (wide.end - wide.first);
                    total += get(gy[place(n, p, q, c, P, Q, C)]) / area;
                }
            put(gx[place(n, h, w, c, H, W, C)], total);
        }
    }
}

// --- the mean over whole images ------------------------------------------------------------------

const int LANES = 32, MOST_STRIPS = 32;

// x[N, pixels, C] -> y[N, C]. A block makes the means of 32 channels of an image: LANES threads (x)
// by strips (y). A strip adds up every so many-th pixel, and then the first adds up all strips: two
// short sums in place of a long one, always in the same order.
extern "C" __global__ void global_avg_pool(const Number *x, Number *y, Index pixels, Index C) {
    __shared__ Sum sums[MOST_STRIPS][LANES];
    unsigned groups = (C + LANES - 1) / LANES;  // of channels
    Index n = blockIdx.x / groups, c = blockIdx.x % groups * LANES + threadIdx.x;
    Sum total = 0;
    if (c < C)
        for (Index pixel = threadIdx.y; pixel < pixels; pixel += blockDim.y)
            total += get(x[(n * pixels + pixel) * C + c]);
    sums[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.y > 0 || c >= C) return;
    for (unsigned strip = 1; strip < blockDim.y; strip++) total += sums[strip][threadIdx.x];
    put(y[n * C + c], total / pixels);
}

// gx[N, H, W, C]: each pixel has the same share of gy[N, C].
extern "C" __global__ void global_avg_pool_gx(const Number *gy, Number *gx, Index H, Index W,
                                              Index C) {
    Index n = image(H), h = row(H);
    for (Index w = first_pixel(); w < W; w += pixel_step())
        for (Index c = threadIdx.x; c < C; c += blockDim.x)
            put(gx[place(n, h, w, c, H, W, C)], get(gy[n * C + c]) / (H * W));
}

// --- up-sampling ---------------------------------------------------------------------------------

// x[N, P, Q, C] -> y[N, H, W, C]: each pixel of x becomes a block of down x across pixels.
extern "C" __global__ void upsample_nearest(const Number *x, Number *y, Index H, Index W, Index C,
                                            Index P, Index Q, Index down, Index across) {
    Index n = image(H), h = row(H), p = (int)h / (int)down;
    for (Index w = first_pixel(); w < W; w += pixel_step()) {
        Index q = (int)w / (int)across;
        for (Index c = threadIdx.x; c < C; c += blockDim.x)
            y[place(n, h, w, c, H, W, C)] = x[place(n, p, q, c, P, Q, C)];
    }
}

// gx[N, P, Q, C]: the sum of gy[N, H, W, C] over each pixel's block.
extern "C" __global__ void upsample_nearest_gx(const Number *gy, Number *gx, Index H, Index W,
                                               Index C, Index P, Index Q, Index down,
                                               Index across) {
    Index n = image(P), p = row(P);
    for (Index q = first_pixel(); q < Q; q += pixel_step())
        for (Index c = threadIdx.x; c < C; c += blockDim.x) {
            Sum total = 0;
            for (Index h = p * down; h < (p + 1) * down; h++)
                for (Index w = q * across; w < (q + 1) * across; w++)
                    total += get(gy[place(n, h, w, c, H, W, C)]);
            put(gx[place(n, p, q, c, P, Q, C)], total);
        }
}
