// The optimizers' steps: one launch changes all parameters of a network. They are hundreds of
// arrays, most of them so small that the card would start and end a kernel for longer than it
// works; and each is read and written once, however many formulas there are.
//
//   places   for each parameter the addresses of its arrays: w, the gradient g, and what the
//            optimizer remembers. All are of one dtype; those of one parameter are of one size.
//   parts    for each block what it changes: a part of one parameter. So a large one has many
//            blocks, and no block has more to do than the others.
//
// No number depends on any other one, so how they are shared out does not change the results. The
// operations and their order are those of array.py.

struct Part {
    Index parameter, begin, end;  // numbers [begin, end) of each of its arrays
};

__device__ inline Number *at(Index address) { return (Number *)address; }

// g *= factor; found[0] = 1 if any is infinite or NaN. (Many threads may write that 1: it is one.)
extern "C" __global__ void unscale(
    const Index *places, const Part *parts, int *found, double factor
) {
    const Part part = parts[blockIdx.x];
    Number *g = at(places[part.parameter]);
    for (Index i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
        put(g[i], get(g[i]) * (Sum)factor);
        Sum slope = get(g[i]);  // as it was rounded: that may be infinite, too
        if (!(slope - slope == 0)) found[0] = 1;  // infinity - infinity is NaN, and so equals nothing
    }
}

// v may be null: there is no momentum.
extern "C" __global__ void sgd(
    const Index *places, const Part *parts, double lr, double momentum, Index nesterov, double decay
) {
    const Part part = parts[blockIdx.x];
    places += 3 * part.parameter;
    Number *w = at(places[0]), *v = at(places[2]);
    const Number *g = at(places[1]);
    const Sum rate = lr, kept = momentum, pull = decay;
    for (Index i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
        Sum weight = get(w[i]), step = get(g[i]);
        if (decay != 0) step += pull * weight;
        if (v) {
            Sum velocity = kept * get(v[i]) + step;
            put(v[i], velocity);
            step = nesterov ? step + kept * velocity : velocity;
        }
        put(w[i], weight - rate * step);
    }
}

// v may be null: there is no momentum.
extern "C" __global__ void rmsprop(
    const Index *places, const Part *parts, double lr, double alpha, double eps, double momentum,
    double decay
) {
    const Part part = parts[blockIdx.x];
    places += 4 * part.parameter;
    Number *w = at(places[0]), *square = at(places[2]), *v = at(places[3]);
    const Number *g = at(places[1]);
    const Sum rate = lr, old = alpha, fresh = 1 - alpha, least = eps, kept = momentum, pull = decay;
    for (Index i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
        Sum weight = get(w[i]), slope = get(g[i]);
        if (decay != 0) slope += pull * weight;
        Sum mean = old * get(square[i]) + fresh * slope * slope;
        put(square[i], mean);
        Sum root = sqrt(mean);
        Sum step = slope / (root + least);
        if (v) {
            step = kept * get(v[i]) + step;
            put(v[i], step);
        }
        put(w[i], weight - rate * step);
    }
}

// lr      with what makes up for m's start from zero: lr / (1 - beta1^step)
// bias    the same of v: 1 - beta2^step
// decay   what is added to the gradient; shrink: what AdamW multiplies the weights by instead
extern "C" __global__ void adam(
    const Index *places, const Part *parts, double lr, double beta1, double beta2, double bias,
    double eps, double decay, double shrink
) {
    const Part part = parts[blockIdx.x];
    places += 4 * part.parameter;
    Number *w = at(places[0]), *m = at(places[2]), *v = at(places[3]);
    const Number *g = at(places[1]);
    const Sum rate = lr, least = eps, pull = decay, left = shrink, whole = bias;
    const Sum old_m = beta1, fresh_m = 1 - beta1, old_v = beta2, fresh_v = 1 - beta2;
    for (Index i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
        Sum weight = get(w[i]) * left, slope = get(g[i]);
        if (decay != 0) slope += pull * weight;
        Sum mean = old_m * get(m[i]) + fresh_m * slope;
        Sum square = old_v * get(v[i]) + fresh_v * slope * slope;
        put(m[i], mean);
        put(v[i], square);
        Sum root = sqrt(square / whole);
        put(w[i], weight - rate * mean / (root + least));
    }
}
