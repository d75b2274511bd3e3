"""Softmax cross-entropy.

Every kind of target that people use comes down to one matrix of weights t[n,k] >= 0, for which

    loss[n] = - sum over k of t[n,k] * log softmax(x)[n,k]

and the class index, the probabilities, class weights, smoothing and ignored rows only decide what
is in t. So there is one op, and one function that builds t.
"""

from typing import Literal

import numpy as np

from resnet_np import kernels
from resnet_np.autograd.tensor import Op, Tensor, check_tensors
from resnet_np.kernels import Array, get_array_module


class SoftmaxCrossEntropy(Op):
    """loss[n] for weights t. Saved: softmax(x); t is a constant."""

    def __init__(self, t: Array) -> None:
        self.t = t

    def forward(self, x: Array) -> Array:
        k = kernels.of(x)
        self.saved = k.softmax(x) if self.needs[0] else None
        return k.softmax_cross_entropy(x, self.t)

    def backward(self, gy: Array) -> tuple[Array]:
        return (kernels.of(gy).softmax_cross_entropy_gx(gy, self.saved, self.t),)


def cross_entropy(
    logits: Tensor,
    targets: Array,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -1,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """The cross-entropy of softmax(logits) with the targets (Goodfellow et al. 2016, eq. 6.30).

    Parameters
    ----------
    logits : [N, K], before any softmax
    targets : integers [N], the class of each row; or probabilities [N, K]
    class_weights : [K] or None, a factor for each class's share of the loss
        For logits on a GPU, give both as arrays of NumPy: they are checked before they are copied
        there. The host has to wait for the card before it can check arrays that lie there.
    label_smoothing : e mixes the target with the uniform distribution, (1 - e) * t + e / K
        (Szegedy et al. 2016, section 7)
    ignore_index : rows with this integer target count neither in the sum nor in the mean
    reduction : "mean" divides by the weight of the rows that count (for integer targets: the sum
        of their class weights; for probabilities: N), which is what PyTorch does

    Returns
    -------
    a tensor of one number, or of shape [N] for "none"
    """
    check_tensors("cross_entropy", logits)
    if isinstance(targets, Tensor) or isinstance(class_weights, Tensor):
        raise TypeError("cross_entropy: targets and class_weights are arrays: pass tensor.data")
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy: logits must be [N, K], not of shape {logits.shape}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'cross_entropy: reduction is "mean", "sum" or "none", not {reduction!r}')
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], not {label_smoothing}")
    t, total = target_weights(logits, targets, class_weights, label_smoothing, ignore_index)
    loss = SoftmaxCrossEntropy(t)(logits)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if total == 0:
        raise ValueError("cross_entropy: every row is ignored or has weight 0: no mean exists")
    return loss.sum() * (1 / total)


def target_weights(
    logits: Tensor,
    targets: Array,
    class_weights: Array | None,
    label_smoothing: float,
    ignore_index: int,
) -> tuple[Array, float]:
    """t [N, K], and by what a mean over the batch divides."""
    xp = get_array_module(logits.data)
    on_host = np.asarray if xp is np else xp.asnumpy
    n, k = logits.shape
    targets = on_host(targets)
    weights = np.ones(k, np.float32) if class_weights is None else on_host(class_weights)
    if weights.shape != (k,):
        raise ValueError(
            f"cross_entropy: class_weights must have shape ({k},), not {weights.shape}"
        )
    if targets.dtype.kind in "iu":
        if targets.shape != (n,):
            raise ValueError(f"cross_entropy: {n} rows need {n} targets, not {targets.shape}")
        counts = targets != ignore_index
        known = np.where(counts, targets, 0)
        if ((known < 0) | (known >= k)).any():
            raise ValueError(f"cross_entropy: targets must be 0..{k - 1} or {ignore_index}")
        total = float((weights[known] * counts).sum())
        counts = xp.asarray(counts)
        probabilities = xp.eye(k, dtype=logits.dtype)[xp.asarray(known)] * counts[:, None]
    else:
        if targets.shape != (n, k):
            raise ValueError(f"cross_entropy: probabilities must be {(n, k)}, not {targets.shape}")
        if (targets < 0).any():
            raise ValueError("cross_entropy: probabilities must not be negative")
        probabilities, counts, total = xp.asarray(targets), xp.ones(n, bool), float(n)
    smooth = (1 - label_smoothing) * probabilities + label_smoothing / k * counts[:, None]
    return (smooth * xp.asarray(weights)).astype(logits.dtype), total


def softmax(logits: Array) -> Array:
    """Probabilities [N, K] from logits [N, K], for prediction (arrays, no gradient)."""
    if isinstance(logits, Tensor):
        raise TypeError("softmax: takes an array and gives one: pass logits.data")
    return kernels.of(logits).softmax(logits)
