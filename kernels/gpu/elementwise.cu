// One number at a time: sums, ReLU.

extern "C" __global__ void add(const Number *a, const Number *b, Number *y, Index count) {
    for (Index i = first(); i < count; i += step()) put(y[i], get(a[i]) + get(b[i]));
}

extern "C" __global__ void relu(const Number *x, Number *y, Index count) {
    for (Index i = first(); i < count; i += step()) {
        Sum value = get(x[i]);
        put(y[i], value < 0 ? 0 : value);  // NaN is not below 0, and stays
    }
}

extern "C" __global__ void relu_gx(const Number *gy, const Number *y, Number *gx, Index count) {
    for (Index i = first(); i < count; i += step()) put(gx[i], get(y[i]) > 0 ? get(gy[i]) : 0);
}
