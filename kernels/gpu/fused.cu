// What follows a matrix product, in one pass over its result.

// y = relu(y + shift + residual), in place: y and residual [pixels, K], shift [K]. What is null is
// left out. A thread keeps its channels, and with them their shifts, and goes from pixel to pixel.
template <int COUNT>
__device__ void finish_packs(Number *y, const Sum *shift, const Number *residual, Index relu,
                             Index K, Index pixels) {
    typedef Pack<COUNT> Packed;
    Index pixel = K / COUNT;  // in packs
    for (Index k = threadIdx.x; k < pixel; k += blockDim.x) {
        Sum shifts[COUNT];
        for (int i = 0; i < COUNT; i++) shifts[i] = shift ? shift[k * COUNT + i] : 0;
        Index step = (Index)gridDim.x * blockDim.y;
        for (Index n = (Index)blockIdx.x * blockDim.y + threadIdx.y; n < pixels; n += step) {
            Packed *place = (Packed *)y + n * pixel + k, values = *place, others = {};
            if (residual) others = ((const Packed *)residual)[n * pixel + k];
            for (int i = 0; i < COUNT; i++) {
                Sum value = get(values.numbers[i]) + shifts[i] + get(others.numbers[i]);
                put(values.numbers[i], relu && value < 0 ? 0 : value);
            }
            *place = values;
        }
    }
}

extern "C" __global__ void finish(Number *y, const Sum *shift, const Number *residual, Index relu,
                                  Index K, Index pixels) {
    finish_packs<1>(y, shift, residual, relu, K, pixels);
}

extern "C" __global__ void finish_wide(Number *y, const Sum *shift, const Number *residual,
                                       Index relu, Index K, Index pixels) {
    finish_packs<WIDE>(y, shift, residual, relu, K, pixels);
}
