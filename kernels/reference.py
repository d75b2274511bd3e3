"""Each kernel as the loops that define it. Slow, and meant to be obviously right.

Nothing runs these but tests and readers. The faster versions, which have the same names and
signatures, are held against them. Names and shapes are explained in `resnet_np.kernels`.
"""

from math import exp, isfinite, log, sqrt

import numpy as np

from resnet_np.kernels import Array, Padding, Pair, output_sizes


def _result(out: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    """`out` or a new array, set to zero."""
    y = np.empty(shape, like.dtype) if out is None else out
    y[...] = 0
    return y


# --- convolution and linear ----------------------------------------------------------------------


def conv2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """y[n,p,q,k] = b[k] + sum over r,s,c of x[n, h, wd, c] * w[r,s,c,k] where (h, wd) is inside x,

    h = p * stride + r - top and wd = q * stride + s - left.
    """
    p_size, q_size = output_sizes(x.shape, w.shape[:2], stride, padding)
    y = _result(out, (len(x), p_size, q_size, w.shape[3]), x)
    for n, p, q, k in np.ndindex(y.shape):
        total = 0.0 if b is None else float(b[k])
        for r, s, c in np.ndindex(w.shape[:3]):
            h = p * stride[0] + r - padding[0][0]
            wd = q * stride[1] + s - padding[1][0]
            if 0 <= h < x.shape[1] and 0 <= wd < x.shape[2]:
                total += float(x[n, h, wd, c]) * float(w[r, s, c, k])
        y[n, p, q, k] = total
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
    """Every product x * w that went into y sends gy * w back to its x. `residual` is added."""
    gx = np.zeros(x_shape, gy.dtype) if residual is None else residual.copy()
    for n, p, q, k in np.ndindex(gy.shape):
        for r, s, c in np.ndindex(w.shape[:3]):
            h = p * stride[0] + r - padding[0][0]
            wd = q * stride[1] + s - padding[1][0]
            if 0 <= h < x_shape[1] and 0 <= wd < x_shape[2]:
                gx[n, h, wd, c] += gy[n, p, q, k] * w[r, s, c, k]
    result = _result(out, x_shape, gy)
    result[...] = gx
    return result


def conv2d_gw(
    gy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """Every product x * w that went into y sends gy * x back to its w."""
    gw = _result(out, w_shape, gy)
    for n, p, q, k in np.ndindex(gy.shape):
        for r, s, c in np.ndindex(w_shape[:3]):
            h = p * stride[0] + r - padding[0][0]
            wd = q * stride[1] + s - padding[1][0]
            if 0 <= h < x.shape[1] and 0 <= wd < x.shape[2]:
                gw[r, s, c, k] += gy[n, p, q, k] * x[n, h, wd, c]
    return gw


def bias_gb(gy: Array, out: Array | None = None) -> Array:
    """gb[k] = the sum of every gy[..., k]."""
    gb = _result(out, gy.shape[-1:], gy)
    for index in np.ndindex(gy.shape):
        gb[index[-1]] += gy[index]
    return gb


def linear(x: Array, w: Array, b: Array | None, out: Array | None = None) -> Array:
    """y[n,k] = b[k] + sum over c of x[n,c] * w[c,k]."""
    y = _result(out, (len(x), w.shape[1]), x)
    for n, k in np.ndindex(y.shape):
        y[n, k] = 0.0 if b is None else b[k]
        for c in range(len(w)):
            y[n, k] += x[n, c] * w[c, k]
    return y


def linear_gx(gy: Array, w: Array, out: Array | None = None) -> Array:
    """gx[n,c] = sum over k of gy[n,k] * w[c,k]."""
    gx = _result(out, (len(gy), len(w)), gy)
    for n, k in np.ndindex(gy.shape):
        for c in range(len(w)):
            gx[n, c] += gy[n, k] * w[c, k]
    return gx


def linear_gw(gy: Array, x: Array, out: Array | None = None) -> Array:
    """gw[c,k] = sum over n of gy[n,k] * x[n,c]."""
    gw = _result(out, (x.shape[1], gy.shape[1]), gy)
    for n, k in np.ndindex(gy.shape):
        for c in range(x.shape[1]):
            gw[c, k] += gy[n, k] * x[n, c]
    return gw


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
    """The mean and the biased variance of each channel, then `fixed_batch_norm` with them."""
    channels = x.shape[-1]
    mean, var = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    for c in range(channels):
        numbers = [float(value) for value in x[..., c].ravel()]
        mean[c] = sum(numbers) / len(numbers)
        var[c] = sum((value - float(mean[c])) ** 2 for value in numbers) / len(numbers)
    return fixed_batch_norm(x, gamma, beta, mean, var, eps, residual, relu, out), mean, var


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
    """(gx, ggamma, gbeta, gresidual), by the chain rule of the paper, line for line.

    With d = x - mean and M numbers in the channel (Ioffe & Szegedy 2015, section 3):

        gvar  = sum of gxhat * d * (-1/2) * (var + eps)^(-3/2)
        gmean = sum of -gxhat / std  +  gvar * sum of -2 * d / M
        gx    = gxhat / std + gvar * 2 * d / M + gmean / M

    gresidual is None where there was no `residual`.
    """
    gy = gy.copy()  # `out` may be gy
    gx, gresidual = _result(out, x.shape, x), np.zeros_like(x)
    ggamma, gbeta = np.zeros_like(gamma), np.zeros_like(gamma)
    for c in range(x.shape[-1]):
        std = sqrt(var[c] + eps)
        d = x[..., c].ravel() - mean[c]
        g = np.where(y[..., c].ravel() > 0, gy[..., c].ravel(), 0) if relu else gy[..., c].ravel()
        gxhat = g * gamma[c]
        gvar = sum(gxhat * d) * -0.5 * std**-3
        gmean = sum(-gxhat / std) + gvar * sum(-2 * d) / len(d)
        gx[..., c] = (gxhat / std + gvar * 2 * d / len(d) + gmean / len(d)).reshape(x.shape[:-1])
        ggamma[c], gbeta[c] = sum(g * d / std), sum(g)
        gresidual[..., c] = g.reshape(x.shape[:-1])
    return gx, ggamma, gbeta, (gresidual if residual else None)


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
    """y = relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual), number by number."""
    y = _result(out, x.shape, x)
    for index in np.ndindex(x.shape):
        c = index[-1]
        value = gamma[c] * (x[index] - mean[c]) / sqrt(var[c] + eps) + beta[c]
        if residual is not None:
            value += residual[index]
        y[index] = max(value, 0) if relu else value
    return y


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
    """(gx, ggamma, gbeta, gresidual), number by number; without x no ggamma and no gbeta."""
    gx, gresidual = _result(out, gy.shape, gy), np.zeros_like(gy)
    ggamma, gbeta = np.zeros_like(gamma), np.zeros_like(gamma)
    for index in np.ndindex(gy.shape):
        c = index[-1]
        g = gy[index]
        if relu and y is not None and not y[index] > 0:
            g = 0
        gx[index] = g * gamma[c] / sqrt(var[c] + eps)
        gresidual[index] = g
        gbeta[c] += g
        if x is not None:
            ggamma[c] += g * (x[index] - mean[c]) / sqrt(var[c] + eps)
    by_channel = (None, None) if x is None else (ggamma, gbeta)
    return gx, *by_channel, (gresidual if residual else None)


# --- sums, activation, pooling, up-sampling ------------------------------------------------------


def add(a: Array, b: Array, out: Array | None = None) -> Array:
    """y = a + b, number by number: two gradients of one tensor."""
    y = _result(out, a.shape, a)
    for index in np.ndindex(a.shape):
        y[index] = a[index] + b[index]
    return y


def relu(x: Array, out: Array | None = None) -> Array:
    """y = 0 if x < 0 else x, so that a NaN stays one."""
    y = _result(out, x.shape, x)
    for index in np.ndindex(x.shape):
        y[index] = 0 if x[index] < 0 else x[index]
    return y


def relu_gx(gy: Array, y: Array, out: Array | None = None) -> Array:
    """gx = gy if y > 0 else 0."""
    gx = _result(out, gy.shape, gy)
    for index in np.ndindex(gy.shape):
        gx[index] = gy[index] if y[index] > 0 else 0
    return gx


def max_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> tuple[Array, Array]:
    """y = the largest number of each window, index = its tap r * S + s; the first among equals."""
    y = _result(out, (len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]), x)
    index = np.zeros(y.shape, np.int32)
    for n, p, q, c in np.ndindex(y.shape):
        best = -np.inf
        for r, s in np.ndindex(size):
            h, w = p * stride[0] + r - padding[0][0], q * stride[1] + s - padding[1][0]
            if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                value = x[n, h, w, c]
                if value > best or np.isnan(value):
                    best, index[n, p, q, c] = value, r * size[1] + s
        y[n, p, q, c] = best
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
    """gx at the winner of each window collects that window's gy."""
    gx = _result(out, x_shape, gy)
    for n, p, q, c in np.ndindex(gy.shape):
        r, s = divmod(int(index[n, p, q, c]), size[1])
        h, w = p * stride[0] + r - padding[0][0], q * stride[1] + s - padding[1][0]
        gx[n, h, w, c] += gy[n, p, q, c]
    return gx


def _window(
    p: int, q: int, x_shape: tuple[int, ...], size: Pair, stride: Pair, padding: Padding
) -> tuple[slice, slice]:
    """The part of a window that lies inside the image."""
    top, left = p * stride[0] - padding[0][0], q * stride[1] - padding[1][0]
    rows = slice(max(top, 0), min(top + size[0], x_shape[1]))
    return rows, slice(max(left, 0), min(left + size[1], x_shape[2]))


def avg_pool(
    x: Array, size: Pair, stride: Pair, padding: Padding, out: Array | None = None
) -> Array:
    """y = the mean of each window's pixels, the border not counted."""
    y = _result(out, (len(x), *output_sizes(x.shape, size, stride, padding), x.shape[3]), x)
    for n, p, q, c in np.ndindex(y.shape):
        rows, columns = _window(p, q, x.shape, size, stride, padding)
        y[n, p, q, c] = x[n, rows, columns, c].mean()
    return y


def avg_pool_gx(
    gy: Array,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    out: Array | None = None,
) -> Array:
    """Each gy, divided by the number of pixels of its window, goes to all of them."""
    gx = _result(out, x_shape, gy)
    for n, p, q, c in np.ndindex(gy.shape):
        rows, columns = _window(p, q, x_shape, size, stride, padding)
        window = gx[n, rows, columns, c]
        window += gy[n, p, q, c] / window.size
    return gx


def global_avg_pool(x: Array, out: Array | None = None) -> Array:
    """y[n,c] = the mean of x[n,:,:,c]."""
    y = _result(out, (len(x), x.shape[3]), x)
    for n, h, w, c in np.ndindex(x.shape):
        y[n, c] += x[n, h, w, c] / (x.shape[1] * x.shape[2])
    return y


def global_avg_pool_gx(gy: Array, x_shape: tuple[int, ...], out: Array | None = None) -> Array:
    """gx[n,h,w,c] = gy[n,c] / (H * W)."""
    gx = _result(out, x_shape, gy)
    for n, h, w, c in np.ndindex(x_shape):
        gx[n, h, w, c] = gy[n, c] / (x_shape[1] * x_shape[2])
    return gx


def upsample_nearest(x: Array, factor: Pair, out: Array | None = None) -> Array:
    """y[n,p,q,c] = x[n, p // factor, q // factor, c]."""
    n_size, h_size, w_size, c_size = x.shape
    y = _result(out, (n_size, h_size * factor[0], w_size * factor[1], c_size), x)
    for n, p, q, c in np.ndindex(y.shape):
        y[n, p, q, c] = x[n, p // factor[0], q // factor[1], c]
    return y


def upsample_nearest_gx(gy: Array, factor: Pair, out: Array | None = None) -> Array:
    """gx[n, p // factor, q // factor, c] collects gy[n,p,q,c]."""
    n_size, p_size, q_size, c_size = gy.shape
    gx = _result(out, (n_size, p_size // factor[0], q_size // factor[1], c_size), gy)
    for n, p, q, c in np.ndindex(gy.shape):
        gx[n, p // factor[0], q // factor[1], c] += gy[n, p, q, c]
    return gx


# --- softmax and cross-entropy -------------------------------------------------------------------


def softmax(x: Array, out: Array | None = None) -> Array:
    """p[n,k] = exp(x[n,k]) / sum of exp(x[n,:])."""
    p = _result(out, x.shape, x)
    for n, k in np.ndindex(x.shape):
        top = max(x[n])
        p[n, k] = exp(x[n, k] - top) / sum(exp(value - top) for value in x[n])
    return p


def softmax_cross_entropy(x: Array, t: Array, out: Array | None = None) -> Array:
    """loss[n] = - sum over k of t[n,k] * log softmax(x)[n,k]."""
    loss = _result(out, (len(x),), x)
    for n, k in np.ndindex(x.shape):
        top = max(x[n])
        log_p = x[n, k] - top - log(sum(exp(value - top) for value in x[n]))
        loss[n] -= t[n, k] * log_p
    return loss


def softmax_cross_entropy_gx(gy: Array, p: Array, t: Array, out: Array | None = None) -> Array:
    """d loss / d x[n,k] = p[n,k] * (t[n,0] + t[n,1] + ...) - t[n,k], times gy[n]."""
    gx = _result(out, p.shape, p)
    for n, k in np.ndindex(p.shape):
        gx[n, k] = gy[n] * (p[n, k] * sum(t[n]) - t[n, k])
    return gx


# --- optimizer steps -----------------------------------------------------------------------------


def unscale_step(gs: list[Array], factor: float) -> bool:
    """One number after the other: multiplied in place; whether none was infinite or NaN."""
    finite = True
    for g in gs:
        for i in np.ndindex(g.shape):
            g[i] = factor * g[i]
            finite = finite and isfinite(g[i])
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
    """One weight after the other; see `resnet_np.kernels.array` for the rule."""
    for w, g, v in zip(ws, gs, vs or [None] * len(ws), strict=True):
        for i in np.ndindex(w.shape):
            gradient = g[i] + decay * w[i]
            if v is not None:
                v[i] = momentum * v[i] + gradient
                gradient = gradient + momentum * v[i] if nesterov else v[i]
            w[i] = w[i] - lr * gradient


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
    """One weight after the other."""
    for w, g, square, v in zip(ws, gs, squares, vs or [None] * len(ws), strict=True):
        for i in np.ndindex(w.shape):
            gradient = g[i] + decay * w[i]
            square[i] = alpha * square[i] + (1 - alpha) * gradient**2
            step = gradient / (sqrt(square[i]) + eps)
            if v is not None:
                v[i] = momentum * v[i] + step
                step = v[i]
            w[i] = w[i] - lr * step


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
    """One weight after the other."""
    for w, g, m, v in zip(ws, gs, ms, vs, strict=True):
        for i in np.ndindex(w.shape):
            gradient = g[i]
            if decoupled:
                w[i] = w[i] - lr * decay * w[i]
            else:
                gradient = gradient + decay * w[i]
            m[i] = betas[0] * m[i] + (1 - betas[0]) * gradient
            v[i] = betas[1] * v[i] + (1 - betas[1]) * gradient**2
            mhat = m[i] / (1 - betas[0] ** step)
            vhat = v[i] / (1 - betas[1] ** step)
            w[i] = w[i] - lr * mhat / (sqrt(vhat) + eps)
