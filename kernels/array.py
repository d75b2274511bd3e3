"""Each kernel as operations on whole arrays, for NumPy and CuPy alike.

Convolution is im2col and a matrix product (Chellapilla et al. 2006, "High performance
convolutional neural networks for document processing"): every output pixel's receptive field is
laid out as one row, and the convolution is `rows @ weights`. Names, shapes and definitions are in
`resnet_np.kernels` and, as loops, in `resnet_np.kernels.reference`.
"""

from collections.abc import Iterator

from resnet_np.kernels import (
    NO_PADDING,
    Array,
    Padding,
    Pair,
    check_out,
    get_array_module,
    output_sizes,
)

# The im2col rows of a whole batch can be nine times the input. They are made for as many images at
# a time as fit in here, small enough to be still in a cache when the matrix product reads them.
WORKSPACE_BYTES = 16 * 2**20


# --- helpers -------------------------------------------------------------------------------------


def _empty(out: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    """`out`, or a new array of this shape.

    `out` must lie in memory like a new one: a kernel may write to it through another shape.
    """
    if out is None:
        return get_array_module(like).empty(shape, like.dtype)
    return check_out(out, shape, like.dtype)


def _channel_sum(x: Array) -> Array:
    """Sum over all axes but the last: [N, H, W, C] -> [C].

    Axis by axis, so that no running sum is longer than one axis: in float32 a single sum over
    100,000 pixels would lose digits that batch norm needs.
    """
    while x.ndim > 1:
        x = x.sum(axis=-2)
    return x


def _pad(x: Array, padding: Padding, value: float = 0.0) -> Array:
    """`x` [N, H, W, C] with a border of `value`, contiguous."""
    xp = get_array_module(x)
    if padding == NO_PADDING:
        return xp.ascontiguousarray(x)
    return xp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def _crop(x: Array, padding: Padding) -> Array:
    """The inverse of `_pad`: `x` without its border, as a view."""
    (top, bottom), (left, right) = padding
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def _chunks(images: int, bytes_per_image: int) -> Iterator[slice]:
    """Slices of the batch whose rows fit into the workspace; at least one image each."""
    step = max(1, WORKSPACE_BYTES // max(1, bytes_per_image))
    for start in range(0, images, step):
        yield slice(start, min(start + step, images))


def _taps(size: Pair, stride: Pair, outputs: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """For each tap (r, s) of the window, the input rows and columns that it meets.

    Output pixel p reads input row p * stride + r, so tap r meets rows r, r + stride, ...
    """
    for r in range(size[0]):
        for s in range(size[1]):
            rows = slice(r, r + stride[0] * (outputs[0] - 1) + 1, stride[0])
            columns = slice(s, s + stride[1] * (outputs[1] - 1) + 1, stride[1])
            yield r, s, rows, columns


# --- convolution ---------------------------------------------------------------------------------


def im2col(x: Array, size: Pair, stride: Pair) -> Array:
    """The receptive field of each output pixel as a row: [N, H, W, C] -> [N*P*Q, R*S*C].

    `x` is padded already, and contiguous. In NHWC the S pixels that a window takes from one image
    row are S*C neighbours in memory, so a receptive field is R runs of S*C numbers. `windows` is a
    view that says so in strides; the reshape copies it out (and for a 1x1 kernel of stride 1 there
    is nothing to copy).
    """
    xp = get_array_module(x)
    _, h, w, c = x.shape
    p, q = output_sizes(x.shape, size, stride, NO_PADDING)
    # Not x.strides: an axis of length 1 may have any stride there, and 0 after `image[..., None]`.
    number = x.itemsize
    pixel = c * number
    row = w * pixel
    image = h * row
    windows = xp.lib.stride_tricks.as_strided(
        x,
        shape=(len(x), p, q, size[0], size[1] * c),
        strides=(image, stride[0] * row, stride[1] * pixel, row, number),
    )
    return windows.reshape(len(x) * p * q, size[0] * size[1] * c)


def conv2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """y[n,p,q,k] = b[k] + sum over r,s,c of x[n, p*stride+r, q*stride+s, c] * w[r,s,c,k]."""
    xp = get_array_module(x)
    r, s, c, k = w.shape
    p, q = output_sizes(x.shape, (r, s), stride, padding)
    y = _empty(out, (len(x), p, q, k), x)
    x = _pad(x, padding)
    w = w.reshape(r * s * c, k)  # [R, S, C, K] -> [R*S*C, K]
    for images in _chunks(len(x), p * q * len(w) * x.itemsize):
        rows = im2col(x[images], (r, s), stride)
        xp.matmul(rows, w, out=y[images].reshape(-1, k))  # [n*P*Q, R*S*C] @ [R*S*C, K]
    if b is not None:
        y += b
    return y


def conv2d_gx(
    gy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    residual: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Gradient by the input: each pixel of x collects from every window that it was part of.

    `residual` [N, H, W, C], if there is one, is added: gradients that x has from elsewhere. `out`
    may be the same array. The rows' gradient is `gy @ w.T`; col2im then adds each tap's share back
    where im2col had read.
    """
    xp = get_array_module(gy)
    n, p, q, k = gy.shape
    r, s, c, _ = w.shape
    gy = xp.ascontiguousarray(gy)
    wt = w.reshape(r * s * c, k).T  # [K, R*S*C]
    (top, bottom), (left, right) = padding
    gx = xp.zeros((n, x_shape[1] + top + bottom, x_shape[2] + left + right, c), gy.dtype)
    for images in _chunks(n, p * q * len(w) * s * c * gy.itemsize):
        grows = gy[images].reshape(-1, k) @ wt  # [n*P*Q, K] @ [K, R*S*C]
        grows = grows.reshape(-1, p, q, r, s, c)  # [n*P*Q, R*S*C] -> [n, P, Q, R, S, C]
        for tap_r, tap_s, rows, columns in _taps((r, s), stride, (p, q)):
            gx[images, rows, columns] += grows[:, :, :, tap_r, tap_s]
    if residual is None:
        return _cropped(gx, padding, out)
    return add(_cropped(gx, padding, None), residual, out)


def conv2d_gw(
    gy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """Gradient by the weight: `rows.T @ gy`, summed over all output pixels of all images."""
    xp = get_array_module(gy)
    n, p, q, k = gy.shape
    r, s, c, _ = w_shape
    gy = xp.ascontiguousarray(gy)
    x = _pad(x, padding)
    gw = _empty(out, (r, s, c, k), gy)
    gw[...] = 0
    flat = gw.reshape(r * s * c, k)  # [R, S, C, K] -> [R*S*C, K], a view
    for images in _chunks(n, p * q * len(flat) * x.itemsize):
        rows = im2col(x[images], (r, s), stride)
        flat += rows.T @ gy[images].reshape(-1, k)  # [R*S*C, n*P*Q] @ [n*P*Q, K]
    return gw


def bias_gb(gy: Array, out: Array | None = None) -> Array:
    """Gradient by a bias, for convolutions and linear layers: gb[k] = sum of gy[..., k]."""
    gb = _empty(out, gy.shape[-1:], gy)
    gb[...] = _channel_sum(gy)
    return gb


# --- linear --------------------------------------------------------------------------------------


def linear(x: Array, w: Array, b: Array | None, out: Array | None = None) -> Array:
    """y[n,k] = b[k] + sum over c of x[n,c] * w[c,k]."""
    y = get_array_module(x).matmul(x, w, out=_empty(out, (len(x), w.shape[1]), x))
    if b is not None:
        y += b
    return y


def linear_gx(gy: Array, w: Array, out: Array | None = None) -> Array:
    """gx = gy @ w.T: [N, K] @ [K, C]."""
    return get_array_module(gy).matmul(gy, w.T, out=_empty(out, (len(gy), len(w)), gy))


def linear_gw(gy: Array, x: Array, out: Array | None = None) -> Array:
    """gw = x.T @ gy: [C, N] @ [N, K]."""
    shape = (x.shape[1], gy.shape[1])
    return get_array_module(gy).matmul(x.T, gy, out=_empty(out, shape, gy))


# --- batch norm ----------------------------------------------------------------------------------


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    residual: Array | None,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual); also mean and var [C].

    `mean` and `var` (biased) are this batch's, over N, H and W (Ioffe & Szegedy 2015, algorithm 1).
    """
    count = x.size // x.shape[-1]
    mean = _channel_sum(x) / count
    centred = x - mean
    var = _channel_sum(centred * centred) / count
    y = get_array_module(x).multiply(centred, gamma / (var + eps) ** 0.5, out=_reuse(out, centred))
    return _shift_add_relu(y, beta, residual, relu), mean, var


def batch_norm_g(
    gy: Array,
    x: Array,
    y: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: bool,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """(gx, ggamma, gbeta, gresidual) of `batch_norm`.

    With g = gy where the ReLU was open, xhat = (x - mean) / std and M = N*H*W (section 3 there):

        gbeta = sum g    ggamma = sum g * xhat
        gx = gamma / std * (g - gbeta / M - xhat * ggamma / M)

    The two subtracted terms are there because the mean and the variance depend on x, too.
    gresidual is g where there was a `residual`, else None. gx may be written over gy, `out` being
    gy, unless gy itself is gresidual.
    """
    count = x.size // x.shape[-1]
    std = (var + eps) ** 0.5
    g = relu_gx(gy, y) if relu else gy
    xhat = (x - mean) / std
    gbeta = _channel_sum(g)
    ggamma = _channel_sum(g * xhat)
    xhat *= ggamma / count
    gx = get_array_module(x).subtract(g, xhat, out=_reuse(out, xhat))
    gx -= gbeta / count
    gx *= gamma / std
    return gx, ggamma, gbeta, (g if residual else None)


def fixed_batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: Array | None,
    relu: bool,
    out: Array | None = None,
) -> Array:
    """As `batch_norm`, with `mean` and `var` given: a multiplication and an addition a number."""
    scale = gamma / (var + eps) ** 0.5
    y = get_array_module(x).multiply(x, scale, out=_empty(out, x.shape, x))
    return _shift_add_relu(y, beta - mean * scale, residual, relu)


def fixed_batch_norm_g(
    gy: Array,
    x: Array | None,
    y: Array | None,
    gamma: Array,
    mean: Array,
    var: Array,
    eps: float,
    residual: bool,
    relu: bool,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """(gx, ggamma, gbeta, gresidual) of `fixed_batch_norm`: gx = g * gamma / std, no more.

    `y` is read only for the ReLU's mask. Where gamma and beta are frozen nobody has to keep `x`:
    without it, their gradients are None. `out` is not gy.
    """
    std = (var + eps) ** 0.5
    g = relu_gx(gy, y) if relu else gy
    gx = get_array_module(g).multiply(g, gamma / std, out=_empty(out, g.shape, g))
    gresidual = g if residual else None
    if x is None:
        return gx, None, None, gresidual
    return gx, _channel_sum(g * ((x - mean) / std)), _channel_sum(g), gresidual


def _reuse(out: Array | None, scratch: Array) -> Array:
    """Write into `out`, or over a temporary that is read for the last time, if it is contiguous."""
    if out is None and scratch.flags.c_contiguous:
        return scratch
    return _empty(out, scratch.shape, scratch)


def _shift_add_relu(y: Array, shift: Array, residual: Array | None, relu: bool) -> Array:
    """In place: y = relu(y + shift + residual)."""
    y += shift
    if residual is not None:
        y += residual
    if relu:
        get_array_module(y).maximum(y, 0, out=y)
    return y


# --- sums, activation, pooling, up-sampling ------------------------------------------------------


def add(a: Array, b: Array, out: Array | None = None) -> Array:
    """y = a + b; `out` may be one of them."""
    return get_array_module(a).add(a, b, out=_empty(out, a.shape, a))


def relu(x: Array, out: Array | None = None) -> Array:
    """y = max(x, 0)."""
    return get_array_module(x).maximum(x, 0, out=_empty(out, x.shape, x))


def relu_gx(gy: Array, y: Array, out: Array | None = None) -> Array:
    """gx = gy where y > 0, else 0. (At x = 0 the gradient is taken as 0, as everyone does.)"""
    return _masked(gy, y > 0, out)


def _masked(g: Array, mask: Array, out: Array | None = None) -> Array:
    """`g` where the mask is True, else 0.

    The bits are multiplied as integers: 0 * infinity would be NaN, and `where` is ten times slower.
    """
    result, integer = _empty(out, g.shape, g), f"i{g.itemsize}"
    get_array_module(g).multiply(g.view(integer), mask, out=result.view(integer))
    return result


def max_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> tuple[Array, Array]:
    """y[n,p,q,c] = the largest of its window, and which tap (r*S + s) that was.

    The border counts as minus infinity. Among equals the first tap wins; a NaN always wins.
    """
    xp = get_array_module(x)
    p, q = output_sizes(x.shape, size, stride, padding)
    x = _pad(x, padding, value=-xp.inf)
    y = _empty(out, (len(x), p, q, x.shape[3]), x)
    y[...] = -xp.inf
    index = xp.zeros(y.shape, xp.int32)
    for r, s, rows, columns in _taps(size, stride, (p, q)):
        tap = x[:, rows, columns]
        wins = (tap > y) | (tap != tap)  # the second half is true for NaN alone
        xp.copyto(y, tap, where=wins)
        xp.copyto(index, r * size[1] + s, where=wins)
    return y, index


def max_pool_gx(
    gy: Array,
    index: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """Each output's gradient goes to the one input pixel that had won; overlaps add up."""
    gx = _padded_zeros(gy, x_shape, padding)
    for r, s, rows, columns in _taps(size, stride, gy.shape[1:3]):
        gx[:, rows, columns] += _masked(gy, index == r * size[1] + s)
    return _cropped(gx, padding, out)


def avg_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """y[n,p,q,c] = the mean over those of the window's pixels that lie inside the image."""
    xp = get_array_module(x)
    p, q = output_sizes(x.shape, size, stride, padding)
    area = _window_area(x, x.shape, size, stride, padding)
    x = _pad(x, padding)
    y = _empty(out, (len(x), p, q, x.shape[3]), x)
    y[...] = 0
    for _, _, rows, columns in _taps(size, stride, (p, q)):
        y += x[:, rows, columns]
    return xp.divide(y, area, out=y)


def avg_pool_gx(
    gy: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """Each output's gradient, divided by its window's pixels, goes to all of them."""
    share = gy / _window_area(gy, x_shape, size, stride, padding)
    gx = _padded_zeros(gy, x_shape, padding)
    for _, _, rows, columns in _taps(size, stride, gy.shape[1:3]):
        gx[:, rows, columns] += share
    return _cropped(gx, padding, out)


def _window_area(
    like: Array, x_shape: tuple[int, ...], size: Pair, stride: Pair, padding: Padding
) -> Array:
    """How many pixels of the image each window covers: [1, P, Q, 1]."""
    xp = get_array_module(like)
    p, q = output_sizes(x_shape, size, stride, padding)
    inside = _pad(xp.ones((1, *x_shape[1:3], 1), like.dtype), padding)
    return im2col(inside, size, stride).sum(axis=1).reshape(1, p, q, 1)


def _padded_zeros(like: Array, x_shape: tuple[int, ...], padding: Padding) -> Array:
    """Zeros in the shape of the padded input: what taps are added into."""
    return _pad(get_array_module(like).zeros(x_shape, like.dtype), padding)


def _cropped(gx: Array, padding: Padding, out: Array | None) -> Array:
    """The padded gradient without its border, contiguous."""
    gx = _crop(gx, padding)
    if out is None:
        return get_array_module(gx).ascontiguousarray(gx)
    out = _empty(out, gx.shape, gx)
    out[...] = gx
    return out


def global_avg_pool(x: Array, out: Array | None = None) -> Array:
    """y[n,c] = the mean of x[n,:,:,c]."""
    n, h, w, c = x.shape
    y = _empty(out, (n, c), x)
    y[...] = x.sum(axis=2).sum(axis=1) / (h * w)
    return y


def global_avg_pool_gx(gy: Array, x_shape: tuple[int, ...], out: Array | None = None) -> Array:
    """gx[n,h,w,c] = gy[n,c] / (H*W)."""
    gx = _empty(out, x_shape, gy)
    gx[...] = (gy / (x_shape[1] * x_shape[2]))[:, None, None, :]
    return gx


def upsample_nearest(x: Array, factor: Pair, out: Array | None = None) -> Array:
    """y[n, h*fh + i, w*fw + j, c] = x[n,h,w,c]: each pixel becomes a block."""
    n, h, w, c = x.shape
    y = _empty(out, (n, h * factor[0], w * factor[1], c), x)
    y.reshape(n, h, factor[0], w, factor[1], c)[...] = x[:, :, None, :, None, :]
    return y


def upsample_nearest_gx(gy: Array, factor: Pair, out: Array | None = None) -> Array:
    """gx[n,h,w,c] = the sum over its block."""
    n, p, q, c = gy.shape
    h, w = p // factor[0], q // factor[1]
    gx = _empty(out, (n, h, w, c), gy)
    gx[...] = gy.reshape(n, h, factor[0], w, factor[1], c).sum(axis=(2, 4))
    return gx


# --- softmax and cross-entropy -------------------------------------------------------------------


def softmax(x: Array, out: Array | None = None) -> Array:
    """p[n,k] = exp(x[n,k]) / sum of exp(x[n,:]); the row's maximum is taken off first."""
    xp = get_array_module(x)
    p = xp.subtract(x, x.max(axis=1, keepdims=True), out=_empty(out, x.shape, x))
    xp.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


def softmax_cross_entropy(x: Array, t: Array, out: Array | None = None) -> Array:
    """loss[n] = - sum over k of t[n,k] * log softmax(x)[n,k], for any weights t >= 0.

    The logarithm is taken analytically, x - max - log(sum exp): no probability is rounded to 0.
    """
    xp = get_array_module(x)
    shifted = x - x.max(axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    loss = _empty(out, (len(x),), x)
    loss[...] = -(t * log_p).sum(axis=1)
    return loss


def softmax_cross_entropy_gx(gy: Array, p: Array, t: Array, out: Array | None = None) -> Array:
    """gx[n,k] = gy[n] * (p[n,k] * sum t[n,:] - t[n,k]), with p = softmax(x)."""
    gx = get_array_module(p).multiply(p, t.sum(axis=1, keepdims=True), out=_empty(out, p.shape, p))
    gx -= t
    gx *= gy[:, None]
    return gx


# --- optimizer steps: these write into the parameters and their states ---------------------------
#
# A step changes many parameters: lists of them, of their gradients and of their states, all in the
# same order. They share the numbers that come behind the lists.


def unscale_step(gs: list[Array], factor: float) -> bool:
    """g *= factor for each of them; whether all of them are finite."""
    finite = True
    for g in gs:
        g *= factor
        finite = finite and bool(get_array_module(g).isfinite(g).all())
    return finite


def sgd_step(
    ws: list[Array],
    gs: list[Array],
    vs: list[Array] | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    decay: float,
) -> None:
    """g += decay * w;  v = momentum * v + g;  w -= lr * v.  Nesterov: w -= lr * (g + momentum * v).

    PyTorch's form: the learning rate multiplies the velocity, not what goes into it. `vs` start as
    zeros, and may be None without momentum.
    """
    for w, g, v in zip(ws, gs, vs or [None] * len(ws), strict=True):
        if decay:
            g = g + decay * w
        if v is not None:
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        w -= lr * g


def rmsprop_step(
    ws: list[Array],
    gs: list[Array],
    squares: list[Array],
    vs: list[Array] | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    decay: float,
) -> None:
    """square = alpha * square + (1 - alpha) * g^2;  w -= lr * g / (sqrt(square) + eps).

    With momentum the quotient goes through `v` first (Hinton's lecture 6e; PyTorch's form).
    """
    for w, g, square, v in zip(ws, gs, squares, vs or [None] * len(ws), strict=True):
        if decay:
            g = g + decay * w
        square *= alpha
        square += (1 - alpha) * g * g
        step = g / (square**0.5 + eps)
        if v is not None:
            v *= momentum
            v += step
            step = v
        w -= lr * step


def adam_step(
    ws: list[Array],
    gs: list[Array],
    ms: list[Array],
    vs: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    decoupled: bool,
) -> None:
    """m, v = running means of g and g^2;  w -= lr * mhat / (sqrt(vhat) + eps).

    mhat = m / (1 - beta1^step) and vhat = v / (1 - beta2^step) undo the start from zero (Kingma &
    Ba 2015, algorithm 1). `decoupled` is AdamW (Loshchilov & Hutter 2019): the decay shrinks the
    weight itself and does not pass through m and v.
    """
    for w, g, m, v in zip(ws, gs, ms, vs, strict=True):
        if decoupled:
            w *= 1 - lr * decay
        elif decay:
            g = g + decay * w
        m *= betas[0]
        m += (1 - betas[0]) * g
        v *= betas[1]
        v += (1 - betas[1]) * g * g
        denominator = (v / (1 - betas[1] ** step)) ** 0.5 + eps
        w -= (lr / (1 - betas[0] ** step)) * m / denominator
