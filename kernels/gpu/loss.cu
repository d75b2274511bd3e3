// Softmax and cross-entropy of the rows of x[N, K]: N images, K classes.
//
// A block works on one row, and its threads take every so many-th class. The block is as wide as
// the row, up to 1024: its width, and with it the order of the sums, follows from K alone.

const int MOST_THREADS = 1024;

// Bring together what the threads of the block have, in pairs: the lower half of them with the
// upper half, then the lower quarter with the second one, and so on. blockDim.x is a power of two.
template <typename Merge>
__device__ inline Sum of_all(Sum mine, Sum *shared, Merge merge) {
    __syncthreads();  // the answer of the last time has been read by all
    shared[threadIdx.x] = mine;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            shared[threadIdx.x] = merge(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
    __syncthreads();
    return shared[0];
}

__device__ inline Sum sum_of_all(Sum mine, Sum *shared) {
    return of_all(mine, shared, [](Sum a, Sum b) { return a + b; });
}

// The row's largest number. A NaN may be lost here: it is met again in the sum of exponentials.
__device__ inline Sum largest(const Number *x, Index K, Sum *shared) {
    Sum mine = minus_infinity();
    for (Index k = threadIdx.x; k < K; k += blockDim.x) {
        Sum value = get(x[k]);
        if (value > mine) mine = value;
    }
    return of_all(mine, shared, [](Sum a, Sum b) { return a > b ? a : b; });
}

// sum of exp(x[k] - top): with the largest number as top, no term is above 1, and one is 1.
__device__ inline Sum sum_of_exp(const Number *x, Sum top, Index K, Sum *shared) {
    Sum mine = 0;
    for (Index k = threadIdx.x; k < K; k += blockDim.x) mine += exp(get(x[k]) - top);
    return sum_of_all(mine, shared);
}

// p[n,k] = exp(x[n,k]) / sum of exp(x[n,:]). p may be x.
extern "C" __global__ void softmax(const Number *x, Number *p, Index K) {
    __shared__ Sum shared[MOST_THREADS];
    x += blockIdx.x * K;
    p += blockIdx.x * K;
    Sum top = largest(x, K, shared);
    Sum total = sum_of_exp(x, top, K, shared);
    for (Index k = threadIdx.x; k < K; k += blockDim.x) put(p[k], exp(get(x[k]) - top) / total);
}

// loss[n] = - sum over k of t[n,k] * log softmax(x)[n,k]; the logarithm as x - top - log(sum exp).
extern "C" __global__ void softmax_cross_entropy(const Number *x, const Number *t, Number *loss,
                                                 Index K) {
    __shared__ Sum shared[MOST_THREADS];
    x += blockIdx.x * K;
    t += blockIdx.x * K;
    Sum top = largest(x, K, shared);
    Sum log_total = log(sum_of_exp(x, top, K, shared));
    Sum mine = 0;
    for (Index k = threadIdx.x; k < K; k += blockDim.x)
        mine += get(t[k]) * (get(x[k]) - top - log_total);
    Sum total = sum_of_all(mine, shared);
    if (threadIdx.x == 0) put(loss[blockIdx.x], -total);
}

// gx[n,k] = gy[n] * (p[n,k] * sum t[n,:] - t[n,k]). gx may be p.
extern "C" __global__ void softmax_cross_entropy_gx(const Number *gy, const Number *p,
                                                    const Number *t, Number *gx, Index K) {
    __shared__ Sum shared[MOST_THREADS];
    p += blockIdx.x * K;
    t += blockIdx.x * K;
    gx += blockIdx.x * K;
    Sum mine = 0;
    for (Index k = threadIdx.x; k < K; k += blockDim.x) mine += get(t[k]);
    Sum weight = sum_of_all(mine, shared), slope = get(gy[blockIdx.x]);
    for (Index k = threadIdx.x; k < K; k += blockDim.x)
        put(gx[k], slope * (get(p[k]) * weight - get(t[k])));
}
