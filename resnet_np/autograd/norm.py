"""Batch normalisation, as two ops: with the batch's statistics, and with fixed ones.

They are two because their way back differs. With batch statistics the mean and the variance depend
on x, and the gradient flows through them; with fixed statistics the layer is one multiplication and
one addition. Frozen and evaluating networks use the second. The optional shortcut and ReLU belong
to the op, so that a fast kernel can apply them while the numbers are at hand.
"""

from resnet_np import kernels
from resnet_np.autograd.tensor import Op, Tensor, check_tensors
from resnet_np.errors import UserError
from resnet_np.kernels import Array


class BatchNorm(Op):
    """Saved: x, gamma, mean, var, and y if there is a ReLU. `mean` and `var` are for the layer."""

    parameters = (1, 2)

    def __init__(self, eps: float, relu: bool) -> None:
        self.eps, self.relu = eps, relu

    def forward(self, x: Array, gamma: Array, beta: Array, residual: Array | None) -> Array:
        k = kernels.of(x)
        y, self.mean, self.var = k.batch_norm(x, gamma, beta, self.eps, residual, self.relu)
        self.saved = x, (y if self.relu else None), gamma
        return y

    def backward(self, gy: Array) -> tuple[Array, ...]:
        x, y, gamma = self.saved
        k, statistics, residual = kernels.of(gy), (self.mean, self.var, self.eps), self.needs[3]
        self.makes_gradients = self.relu or not residual  # else the residual's is gy itself
        out = gy if self.owns_gy and self.makes_gradients else None
        return k.batch_norm_g(gy, x, y, gamma, *statistics, residual, self.relu, out=out)


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Array, Array]:
    """relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual), mean and var from this batch.

    Ioffe & Szegedy 2015, algorithm 1. Per channel, over all other axes; the variance is the biased
    one (divided by M, not M - 1).

    Parameters
    ----------
    x : [N, H, W, C] or [N, C]
    gamma, beta : [C]
    eps : added to the variance
    residual : of x's shape or None; added before the ReLU
    relu : whether to end with max(., 0)

    Returns
    -------
    y of x's shape, and the arrays mean and var [C], for the running statistics
    """
    check_tensors("batch_norm", x, gamma, beta, residual)
    _check_shapes("batch_norm", x, (gamma, beta), residual)
    if x.size <= x.shape[-1]:
        few = "one value" if x.size else "no value"
        raise UserError(
            f"batch_norm: {few} per channel in x of shape {x.shape} has no variance; "
            "use a larger batch or a larger image"
        )
    op = BatchNorm(eps, relu)
    return op(x, gamma, beta, residual), op.mean, op.var


class FixedBatchNorm(Op):
    """Saved: gamma, x if gamma or beta needs a gradient, y if there is a ReLU; mean and var."""

    parameters = (1, 2)

    def __init__(self, mean: Array, var: Array, eps: float, relu: bool) -> None:
        self.mean, self.var, self.eps, self.relu = mean, var, eps, relu

    def forward(self, x: Array, gamma: Array, beta: Array, residual: Array | None) -> Array:
        if any(self.needs):  # training may move the running statistics before the way back
            self.mean, self.var = self.mean.copy(), self.var.copy()
        k, fixed = kernels.of(x), (self.mean, self.var, self.eps)
        y = k.fixed_batch_norm(x, gamma, beta, *fixed, residual, self.relu)
        kept = x if self.needs[1] or self.needs[2] else None
        self.saved = kept, (y if self.relu else None), gamma
        return y

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        x, y, gamma = self.saved
        k, fixed = kernels.of(gy), (self.mean, self.var, self.eps)
        return k.fixed_batch_norm_g(gy, x, y, gamma, *fixed, self.needs[3], self.relu)


def fixed_batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """relu(gamma * (x - mean) / sqrt(var + eps) + beta + residual), mean and var given.

    Shapes as in `batch_norm`; `mean` and `var` are arrays [C] and constants: no gradient flows
    through them.
    """
    check_tensors("fixed_batch_norm", x, gamma, beta, residual)
    _check_shapes("fixed_batch_norm", x, (gamma, beta, mean, var), residual)
    return FixedBatchNorm(mean, var, eps, relu)(x, gamma, beta, residual)


def _check_shapes(
    name: str, x: Tensor, channels: tuple[Tensor | Array, ...], residual: Tensor | None
) -> None:
    """Nothing is broadcast: [C] for all that is per channel, and x's shape for the residual."""
    if any(v.shape != x.shape[-1:] for v in channels):
        shapes = ", ".join(str(v.shape) for v in channels)
        raise ValueError(
            f"{name}: x of shape {x.shape} needs gamma, beta, mean and var of shape "
            f"{x.shape[-1:]}, not {shapes}"
        )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"{name}: residual must have x's shape {x.shape}, not {residual.shape}")
