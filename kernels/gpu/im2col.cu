// Receptive fields as rows of a matrix, and the way back: convolution by matrix products.
//
// In NHWC the S pixels that a field has in one image row are S*C neighbours in memory, and so they
// are in the field's row: a *run*. A field is R of them. Neighbouring threads have neighbouring
// channels, and what has to be divided is divided once for a block, not once for each number.

// rows[pixel, (r*S + s)*C + c] = x[n, p*stride + r - top, q*stride + s - left, c], or 0 in the border
//
// x [N, H, W, C]; rows [pixels, R*S*C], for the output pixels (n, p, q) of the output rows that are
// asked for. Output rows are counted through the whole batch: n*P + p, from `start` on.
// Block (i, r) lays out run r of all fields of output row start + i.
template <int COUNT>
__device__ void lay_out(const Number *x, Number *rows, Index start, Index H, Index W, Index C,
                        Index P, Index Q, Index S, Index down, Index right, Index top, Index left) {
    typedef Pack<COUNT> Packed;
    Index row = start + blockIdx.x, r = blockIdx.y, R = gridDim.y;
    Index pixel = C / COUNT, width = W * pixel, run = S * pixel;  // in packs, as all that follows
    Index h = row % P * down + r - top;
    bool inside = 0 <= h && h < H;
    const Packed *line = (const Packed *)x + (inside ? row / P * H + h : 0) * width;
    Packed *runs = (Packed *)rows + (blockIdx.x * Q * R + r) * run;
    for (Index q = threadIdx.y; q < Q; q += blockDim.y) {
        Index begin = (q * right - left) * pixel;
        for (Index j = threadIdx.x; j < run; j += blockDim.x) {
            Index i = begin + j;
            runs[q * R * run + j] = inside && 0 <= i && i < width ? line[i] : Packed{};
        }
    }
}

// gx[n, h, w, c] = the sum of rows[(n, p, q), (r*S + s)*C + c] over all windows (p, q) that the
// pixel was part of: as tap r = h + top - p*stride, s = w + left - q*stride; and of the residual
// there, if there is one, which may be gx.
//
// gx [images, heights, W, C] are the rows from `start` on of some images, and `rows` the fields of
// the P output rows from `first` on of the same images: all that meet those rows of gx. Each pixel
// collects what is its own and is written once, so no two threads ever add to one place.
// Block i writes row i of gx.
template <int COUNT>
__device__ void collect(const Number *rows, const Number *residual, Number *gx, Index start,
                        Index heights, Index W, Index C, Index first, Index P, Index Q, Index R,
                        Index S, Index down, Index right, Index top, Index left) {
    typedef Pack<COUNT> Packed;
    Index pixel = C / COUNT, image = blockIdx.x / heights;
    Index h = start + blockIdx.x % heights + top;  // in the image with its border
    Index p_begin = max(first, h < R ? (Index)0 : (h - R) / down + 1);
    Index p_end = min(first + P, h / down + 1);
    const Packed *fields = (const Packed *)rows + (image * P - first) * Q * R * S * pixel;
    const Packed *others = residual ? (const Packed *)residual + blockIdx.x * W * pixel : 0;
    Packed *line = (Packed *)gx + blockIdx.x * W * pixel;
    for (Index i = threadIdx.y; i < W; i += blockDim.y) {
        int w = i + left, s = S, step = right;  // 64 bits take several times as long to divide
        int q_begin = w < s ? 0 : (w - s) / step + 1;
        int q_end = min((int)Q, w / step + 1);
        for (Index c = threadIdx.x; c < pixel; c += blockDim.x) {
            Sum sums[COUNT] = {};
            for (Index p = p_begin; p < p_end; p++)
                for (int q = q_begin; q < q_end; q++) {
                    Index tap = (h - p * down) * S + w - q * step;
                    Packed share = fields[((p * Q + q) * R * S + tap) * pixel + c];
                    for (int k = 0; k < COUNT; k++) sums[k] += get(share.numbers[k]);
                }
            Packed result = others ? others[i * pixel + c] : Packed{};
            for (int k = 0; k < COUNT; k++)
                put(result.numbers[k], sums[k] + get(result.numbers[k]));
            line[i * pixel + c] = result;
        }
    }
}

extern "C" __global__ void im2col(const Number *x, Number *rows, Index start, Index H, Index W,
                                  Index C, Index P, Index Q, Index S, Index down, Index right,
                                  Index top, Index left) {
    lay_out<1>(x, rows, start, H, W, C, P, Q, S, down, right, top, left);
}

extern "C" __global__ void im2col_wide(const Number *x, Number *rows, Index start, Index H, Index W,
                                       Index C, Index P, Index Q, Index S, Index down, Index right,
                                       Index top, Index left) {
    lay_out<WIDE>(x, rows, start, H, W, C, P, Q, S, down, right, top, left);
}

extern "C" __global__ void col2im(const Number *rows, const Number *residual, Number *gx,
                                  Index start, Index heights, Index W, Index C, Index first,
                                  Index P, Index Q, Index R, Index S, Index down, Index right,
                                  Index top, Index left) {
    collect<1>(rows, residual, gx, start, heights, W, C, first, P, Q, R, S, down, right, top,
        left);
}

extern "C" __global__ void col2im_wide(const Number *rows, const Number *residual, Number *gx,
                                       Index start, Index heights, Index W, Index C, Index first,
                                       Index P, Index Q, Index R, Index S, Index down, Index right,
                                       Index top, Index left) {
    collect<WIDE>(rows, residual, gx, start, heights, W, C, first, P, Q, R, S, down, right, top,
        left);
}
