// Batch normalisation: statistics of each channel, and passes over all numbers.
//
// An array is [rows, channels] here, a row being a pixel. There is little to compute and much to
// read, so what counts is how often an array passes by. Forward: x is read twice, once for the
// statistics and once to normalise. Back: gy, y and x are read twice, once for the sums and once
// for gx; all is read once where statistics are fixed. Nothing else of that size is read or written.
//
// All these passes share out an array in the same way. A block of LANES x ROWS threads takes
// LANES * 4 neighbouring channels (blockIdx.x says which) of a strip of rows (blockIdx.y). Each of
// its threads takes four neighbouring channels of every ROWS-th row, so that neighbouring threads
// read neighbouring numbers, and what belongs to a channel is read or computed once for many rows.
//
// Sums are added up along the strip by each thread, then across the block, and written as one
// *part* for each strip; a second, small kernel adds up the parts, in double. Where strips begin
// and end follows from the array's shape alone, so the sums are the same on every card.

const int LANES = 16, ROWS = 16;    // threads of a block that takes a strip
const int COLUMNS = 8, PARTS = 64;  // and of one that adds up parts

// --- what a thread takes -------------------------------------------------------------------------

struct Share {
    int channel;       // the first of its channels; an Index here, and NVRTC writes no Fours
    int count;         // how many: 4; fewer, or none, where the channels end
    Index begin, end;  // of the strip's rows, it takes begin, begin + ROWS, ... before end
};

__device__ inline Share share_of(Index part, Index rows, Index channels, Index strip) {
    Share share;
    share.channel = (blockIdx.x * LANES + threadIdx.x) * 4;
    share.count = (int)max((Index)0, min((Index)4, channels - share.channel));
    share.begin = part * strip + threadIdx.y;
    share.end = share.count > 0 ? min(part * strip + strip, rows) : 0;
    return share;
}

// Four neighbouring numbers of a row, as they lie in memory: they are widened when they are needed,
// so that a thread asks for the numbers of all arrays before it waits for the first. Four floats are
// the 16 bytes that a thread can move at once. There is no second kernel for arrays that do not
// allow for that (see packs.py): four channels are a thread's share whatever the dtype and wherever
// arrays lie, since the order of its sums follows from that.
typedef Pack<4> Four;

// Whether the card can take them at once: all four are there and begin at a multiple of their size.
// So it is everywhere if the channels are a multiple of four and the array begins well.
__device__ inline bool lies_well(const Number *place, int count) {
    return count == 4 && (Index)place % (Index)sizeof(Four) == 0;
}

__device__ inline Four read(const Number *place, int count) {
    if (lies_well(place, count)) return *(const Four *)place;
    Four four = {};
    for (int k = 0; k < 4; k++)
        if (k < count) four.numbers[k] = place[k];
    return four;
}

__device__ inline void write(Number *place, int count, Four four) {
    if (lies_well(place, count)) {
        *(Four *)place = four;
        return;
    }
    for (int k = 0; k < 4; k++)
        if (k < count) place[k] = four.numbers[k];
}

// What belongs to a thread's channels, from an array [channels].
struct Values {
    Sum at[4];
};

__device__ inline Values values_of(const Sum *channels, Share share) {
    Values values = {};
    for (int k = 0; k < 4; k++)
        if (k < share.count) values.at[k] = channels[share.channel + k];
    return values;
}

__device__ inline Values standard_deviations(const Sum *var, Sum eps, Share share) {
    Values std = values_of(var, share);
    for (int k = 0; k < 4; k++) std.at[k] = sqrt(std.at[k] + eps);
    return std;
}

// What normalised numbers are multiplied by, and slopes on the way back.
__device__ inline Values scales_of(const Sum *gamma, Values std, Share share) {
    Values scale = values_of(gamma, share);
    for (int k = 0; k < 4; k++) scale.at[k] /= std.at[k];
    return scale;
}

// --- sums across a block -------------------------------------------------------------------------

// Two sums for each of a thread's channels.
struct Sums {
    Sum at[8];
};
const int SHARED_SUMS = 8 * ROWS * LANES;

// The sum of `own` over the threads of a lane, in the thread of row 0; `shared` has SHARED_SUMS
// places. Each step of the tree adds the second half of the rows to the first.
__device__ inline Sums sum_of_rows(Sums own, Sum *shared) {
    Sum *mine = shared + threadIdx.y * LANES + threadIdx.x;
    for (int k = 0; k < 8; k++) mine[k * ROWS * LANES] = own.at[k];
    for (int half = ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            for (int k = 0; k < 8; k++)
                mine[k * ROWS * LANES] += mine[k * ROWS * LANES + half * LANES];
    }
    for (int k = 0; k < 8; k++) own.at[k] = mine[k * ROWS * LANES];
    return own;
}

// Write a part: first[part, channel], second[part, channel], of [2, parts, channels].
__device__ inline void write_part(Sums sums, Sum *parts, Index part, Index channels, Share share) {
    if (threadIdx.y > 0) return;
    Sum *first = parts + part * channels + share.channel;
    Sum *second = first + gridDim.y * channels;
    for (int k = 0; k < 4; k++)
        if (k < share.count) {
            first[k] = sums.at[k];
            second[k] = sums.at[4 + k];
        }
}

// The sum over the threads of a column of COLUMNS x PARTS threads, for all of them. `shared` has a
// place for each thread.
__device__ inline double sum_of_column(double own, double *shared) {
    double *mine = shared + threadIdx.y * COLUMNS + threadIdx.x;
    *mine = own;
    for (int half = PARTS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) *mine += mine[half * COLUMNS];
    }
    __syncthreads();
    double sum = shared[threadIdx.x];
    __syncthreads();  // the next sum may be written only when this one has been read
    return sum;
}

// --- statistics ----------------------------------------------------------------------------------

// Of each strip, for each channel: its mean, and the sum of squared distances from it.
//
// x [rows, channels] -> parts [2, gridDim.y, channels]
//
// One pass has to do for both, but the sum of x * x minus the square of the sum would lose all
// digits where the mean is far from 0: with mean 1000 and variance 1, the two differ in the seventh
// digit, the last that a float has. So what is added up is d = x - pivot and d * d. Any number of
// the strip will do for the pivot, and each strip takes its first: of n numbers none is farther
// from their mean than sqrt(n - 1) standard deviations, and most are about one. For a channel that
// is constant all d are 0, and so is the variance, exactly.
extern "C" __global__ void moments(
    const Number *x, Sum *parts, Index rows, Index channels, Index strip) {
    __shared__ Sum shared[SHARED_SUMS];
    Index part = blockIdx.y, start = part * strip;
    Share share = share_of(part, rows, channels, strip);
    Four pivot = read(x + start * channels + share.channel, share.count);
    Sums sums = {};
    for (Index row = share.begin; row < share.end; row += ROWS) {
        Four four = read(x + row * channels + share.channel, share.count);
        for (int k = 0; k < 4; k++) {
            Sum d = get(four.numbers[k]) - get(pivot.numbers[k]);
            sums.at[k] += d;
            sums.at[4 + k] += d * d;
        }
    }
    sums = sum_of_rows(sums, shared);
    Sum n = min(strip, rows - start);
    for (int k = 0; k < 4; k++) {
        Sum distance = sums.at[k] / n;  // of the mean from the pivot
        Sum spread = sums.at[4 + k] - sums.at[k] * distance;
        sums.at[k] = get(pivot.numbers[k]) + distance;
        sums.at[4 + k] = spread < 0 ? 0 : spread;  // by rounding; NaN is not below 0
    }
    write_part(sums, parts, part, channels, share);
}

// The mean and the (biased) variance of each channel, from those of its strips.
//
// parts [2, count, channels] -> mean, var [channels]
//
// From strips of n[i] rows, each with its mean and its spread (Chan, Golub & LeVeque 1983,
// "Algorithms for computing the sample variance: analysis and recommendations"):
//
//     mean = sum n[i] * mean[i] / rows    var = sum (spread[i] + n[i] * (mean[i] - mean)^2) / rows
//
// What is added up is the means' distance from the first, which is 0, exactly, if all are equal. A
// block takes COLUMNS channels, PARTS parts at a time.
extern "C" __global__ void statistics(
    const Sum *parts, Index count, Sum *mean, Sum *var, Index rows, Index channels, Index strip) {
    __shared__ double shared[COLUMNS * PARTS];
    Index channel = (Index)blockIdx.x * COLUMNS + threadIdx.x;
    const Sum *means = parts + channel, *spreads = means + count * channels;
    Index end = channel < channels ? count : 0;
    double first = end > 0 ? means[0] : 0, sum = 0, spread = 0;
    for (Index i = threadIdx.y; i < end; i += PARTS) {
        double n = min(strip, rows - i * strip);
        sum += n * (means[i * channels] - first);
    }
    double middle = first + sum_of_column(sum, shared) / rows;
    for (Index i = threadIdx.y; i < end; i += PARTS) {
        double n = min(strip, rows - i * strip), d = means[i * channels] - middle;
        spread += spreads[i * channels] + n * d * d;
    }
    spread = sum_of_column(spread, shared);
    if (channel >= channels || threadIdx.y > 0) return;
    mean[channel] = middle;
    var[channel] = spread / rows;
}

// --- forward -------------------------------------------------------------------------------------

// y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual)
//
// x, residual or null, y [rows, channels]; gamma, beta, mean, var [channels]
//
// Not x * scale + (beta - mean * scale): that loses digits where the mean is far from 0. The last
// strip comes first: it was read last, and may still lie in the card's cache.
extern "C" __global__ void normalise(
    const Number *x, const Sum *gamma, const Sum *beta, const Sum *mean, const Sum *var,
    const Number *residual, Number *y, Index rows, Index channels, Index strip, Index relu,
    double eps) {
    Share share = share_of(gridDim.y - 1 - blockIdx.y, rows, channels, strip);
    Values middle = values_of(mean, share), shift = values_of(beta, share);
    Values scale = scales_of(gamma, standard_deviations(var, eps, share), share);
    for (Index row = share.begin; row < share.end; row += ROWS) {
        Index place = row * channels + share.channel;
        Four four = read(x + place, share.count), added = {};
        if (residual) added = read(residual + place, share.count);
        for (int k = 0; k < 4; k++) {
            Sum value = (get(four.numbers[k]) - middle.at[k]) * scale.at[k] + shift.at[k];
            if (residual) value += get(added.numbers[k]);
            put(four.numbers[k], relu && value < 0 ? 0 : value);  // NaN is not below 0, and stays
        }
        write(y + place, share.count, four);
    }
}

// --- backward ------------------------------------------------------------------------------------

// Of each strip, for each channel: the sums of g and of g * (x - mean), with g = gy where y > 0.
//
// gy [rows, channels]; y the same, or null where there is no ReLU; x the same with mean [channels],
// or both null where only g is asked for -> parts [2, gridDim.y, channels]
extern "C" __global__ void gradient_sums(
    const Number *gy, const Number *y, const Number *x, const Sum *mean, Sum *parts, Index rows,
    Index channels, Index strip) {
    __shared__ Sum shared[SHARED_SUMS];
    Index part = blockIdx.y;
    Share share = share_of(part, rows, channels, strip);
    Values middle = {};
    if (x) middle = values_of(mean, share);
    Sums sums = {};
    for (Index row = share.begin; row < share.end; row += ROWS) {
        Index place = row * channels + share.channel;
        Four four = read(gy + place, share.count), output = {}, input = {};
        if (y) output = read(y + place, share.count);
        if (x) input = read(x + place, share.count);
        for (int k = 0; k < 4; k++) {
            Sum g = y && !(get(output.numbers[k]) > 0) ? 0 : get(four.numbers[k]);
            sums.at[k] += g;
            if (x) sums.at[4 + k] += g * (get(input.numbers[k]) - middle.at[k]);
        }
    }
    write_part(sum_of_rows(sums, shared), parts, part, channels, share);
}

// gbeta = sum of g; ggamma = sum of g * (x - mean) / sqrt(var + eps).
//
// parts [2, count, channels], var -> gbeta, ggamma [channels]; var and ggamma may be null. A block
// takes COLUMNS channels, PARTS parts at a time.
extern "C" __global__ void add_parts(
    const Sum *parts, Index count, const Sum *var, Sum *gbeta, Sum *ggamma, Index channels,
    double eps) {
    __shared__ double shared[COLUMNS * PARTS];
    Index channel = (Index)blockIdx.x * COLUMNS + threadIdx.x;
    const Sum *sums = parts + channel, *products = sums + count * channels;
    Index end = channel < channels ? count : 0;
    double sum = 0, product = 0;
    for (Index i = threadIdx.y; i < end; i += PARTS) {
        sum += sums[i * channels];
        if (ggamma) product += products[i * channels];
    }
    sum = sum_of_column(sum, shared);
    product = sum_of_column(product, shared);
    if (channel >= channels || threadIdx.y > 0) return;
    gbeta[channel] = sum;
    if (ggamma) ggamma[channel] = product / sqrt(var[channel] + eps);
}

// gx = gamma / std * (g - gbeta / rows - xhat * ggamma / rows), with g = gy where y > 0,
// std = sqrt(var + eps) and xhat = (x - mean) / std.
//
// gy, y or null, x, gx [rows, channels]; gamma, mean, var, ggamma, gbeta [channels]. g is written
// into gresidual [rows, channels] unless that is null. gx may be gy: the thread that writes a number
// is the one that has read it.
extern "C" __global__ void gradient(
    const Number *gy, const Number *y, const Number *x, const Sum *gamma, const Sum *mean,
    const Sum *var, const Sum *ggamma, const Sum *gbeta, Number *gx, Number *gresidual, Index rows,
    Index channels, Index strip, double eps) {
    Share share = share_of(gridDim.y - 1 - blockIdx.y, rows, channels, strip);
    Values std = standard_deviations(var, eps, share), scale = scales_of(gamma, std, share);
    Values middle = values_of(mean, share);
    Values slope = values_of(ggamma, share), shift = values_of(gbeta, share);
    for (int k = 0; k < 4; k++) {
        slope.at[k] *= -scale.at[k] / (std.at[k] * rows);
        shift.at[k] *= -scale.at[k] / rows;
    }
    for (Index row = share.begin; row < share.end; row += ROWS) {
        Index place = row * channels + share.channel;
        Four four = read(gy + place, share.count), input = read(x + place, share.count), output = {};
        if (y) output = read(y + place, share.count);
        for (int k = 0; k < 4; k++) {
            if (y && !(get(output.numbers[k]) > 0)) put(four.numbers[k], 0);
            Sum value = scale.at[k] * get(four.numbers[k]);
            value += slope.at[k] * (get(input.numbers[k]) - middle.at[k]) + shift.at[k];
            put(input.numbers[k], value);
        }
        if (gresidual) write(gresidual + place, share.count, four);
        write(gx + place, share.count, input);
    }
}

// Where statistics are fixed, no number of gx depends on the sums, and one pass makes both:
// gx = gamma / std * g, and the parts of gradient_sums.
//
// As in the two above; x, mean and parts may be null: the parts are then left out.
extern "C" __global__ void fixed_gradient(
    const Number *gy, const Number *y, const Number *x, const Sum *gamma, const Sum *mean,
    const Sum *var, Number *gx, Number *gresidual, Sum *parts, Index rows, Index channels,
    Index strip, double eps) {
    __shared__ Sum shared[SHARED_SUMS];
    Index part = blockIdx.y;
    Share share = share_of(part, rows, channels, strip);
    Values scale = scales_of(gamma, standard_deviations(var, eps, share), share), middle = {};
    if (x) middle = values_of(mean, share);
    Sums sums = {};
    for (Index row = share.begin; row < share.end; row += ROWS) {
        Index place = row * channels + share.channel;
        Four four = read(gy + place, share.count), output = {}, input = {};
        if (y) output = read(y + place, share.count);
        if (x) input = read(x + place, share.count);
        for (int k = 0; k < 4; k++) {
            if (y && !(get(output.numbers[k]) > 0)) put(four.numbers[k], 0);
            Sum g = get(four.numbers[k]);
            sums.at[k] += g;
            if (x) sums.at[4 + k] += g * (get(input.numbers[k]) - middle.at[k]);
            put(input.numbers[k], scale.at[k] * g);
        }
        if (gresidual) write(gresidual + place, share.count, four);
        write(gx + place, share.count, input);
    }
    if (x) write_part(sum_of_rows(sums, shared), parts, part, channels, share);
}
