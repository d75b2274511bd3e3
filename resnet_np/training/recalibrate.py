"""Statistics that do not belong to the images: noticed before training, and repaired exactly.

Some published weights have their batch-norm statistics multiplied into gamma and beta: running mean
0, running variance 1. With fixed statistics they are right. As soon as batch norm is trained it
divides by the batch's own deviation, which was never taken out of gamma, and the network falls
apart. `is_folded` knows such statistics by their values, `disagreement` compares stored statistics
with measured ones; `recalibrate` stores what was measured and changes gamma and beta so that, with
fixed statistics, every output stays as it was.
"""

from dataclasses import dataclass

import numpy as np

from resnet_np.autograd import Tensor, no_grad
from resnet_np.data.loader import epoch_order, split_batches
from resnet_np.device import to_device
from resnet_np.errors import UserError
from resnet_np.kernels import Array, to_host
from resnet_np.models.resnet import ResNet
from resnet_np.nn import BatchNorm2d
from resnet_np.training.features import Inputs, batches_of
from resnet_np.training.options import Options

LOOKED_AT = 512  # training images that the statistics are measured on

# Stored and measured variances that differ by more than this factor do not belong together. With
# real statistics of photographs, other photographs and even digits move them by 1.1 to 2.8; with
# the folded statistics of published weights the median batch norm is off by 80 (both measured).
GROSS = 10.0

DESTROYS = (
    "training them would destroy what the weights know; add --recalibrate, which repairs this "
    "without changing the features"
)


@dataclass
class Moments:
    """Count, mean and variance of numbers per channel, in float64. mean, var: [C]."""

    count: int
    mean: np.ndarray
    var: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Those of x [..., C] over all axes but the last; the variance is the biased one."""
        x = x.reshape(-1, x.shape[-1]).astype(np.float64)  # [N, H, W, C] -> [N*H*W, C]
        return cls(len(x), x.mean(axis=0), x.var(axis=0))

    def __add__(self, other: "Moments") -> "Moments":
        """Those of both sets of numbers together (Chan, Golub & LeVeque 1983, eq. 2.1)."""
        count = self.count + other.count
        share = other.count / count
        delta = other.mean - self.mean
        var = (1 - share) * self.var + share * other.var + share * (1 - share) * delta**2
        return Moments(count, self.mean + share * delta, var)


def check_statistics(model: ResNet, start: str, inputs: Inputs, options: Options) -> None:
    """Before batch norms are trained: with --recalibrate, make their statistics those of the
    training images; without, raise UserError if they were folded away or disagree grossly.
    """
    refuse_folded(model, options)
    rng = np.random.default_rng([options.seed, 2])  # apart from the generator of the batch order
    indices = epoch_order(rng, len(inputs.labels))[:LOOKED_AT]
    measured = measure(model, start, inputs, indices, options.batch_size)
    if options.recalibrate:
        recalibrate(model, measured)
        return
    factors = disagreement(model, measured)
    wrong = {name: factor for name, factor in factors.items() if factor > GROSS}
    if wrong:
        worst = max(wrong, key=wrong.__getitem__)
        raise UserError(
            f"--unfreeze {options.unfreeze}: the stored statistics of {len(wrong)} of "
            f"{len(factors)} batch norms are not those of the images (variances of {worst} by a "
            f"factor of {wrong[worst]:.0f}), so {DESTROYS}"
        )


def refuse_folded(model: ResNet, options: Options) -> None:
    """Raise UserError if batch norms are to be trained whose statistics were folded away, and
    nothing is to be done about it.
    """
    folded = [name for name, layer in trainable_norms(model).items() if is_folded(layer)]
    if folded and not options.recalibrate:
        raise UserError(
            f"--unfreeze {options.unfreeze}: the statistics of {len(folded)} batch norms, "
            f"{folded[0]} the first, were folded into gamma and beta (all means are 0, all "
            f"variances 1), so {DESTROYS}"
        )


def trainable_norms(model: ResNet) -> dict[str, BatchNorm2d]:
    """The batch norms that training would change, by name."""
    modules = model.named_modules()
    return {n: m for n, m in modules if isinstance(m, BatchNorm2d) and not m.frozen}


def is_folded(layer: BatchNorm2d) -> bool:
    """Whether the stored mean is exactly 0 and the variance exactly 1, which no images give."""
    mean, var = to_host(layer.running_mean), to_host(layer.running_var)
    return not mean.any() and bool((var == 1).all())


def measure(
    model: ResNet, start: str, inputs: Inputs, indices: np.ndarray, batch_size: int
) -> dict[str, Moments]:
    """The moments at the input of each trainable batch norm, in one pass with fixed statistics.

    inputs: what enters the model at stage `start`; `indices` [n] chooses the images to look at.
    """
    norms = trainable_norms(model)
    seen: dict[str, Moments] = {}

    def look(name: str, x: Tensor) -> None:
        moments = Moments.of(to_host(x.data))
        seen[name] = seen[name] + moments if name in seen else moments

    try:
        for name, layer in norms.items():
            layer.hook = lambda x, y, name=name: look(name, x)
        model.eval()
        with no_grad():
            for x in batches_of(inputs, split_batches(indices, batch_size)):
                model(Tensor(x), start=start, stop="fc", checked=True)
    finally:
        for layer in norms.values():
            layer.hook = None
    return seen


def disagreement(model: ResNet, measured: dict[str, Moments]) -> dict[str, float]:
    """For each measured batch norm, by which factor its stored variances are wrong: >= 1.

    The median over the channels, of the larger over the smaller of stored and measured variance
    about the stored mean. Channels that are constant both ways do not count.
    """
    norms = trainable_norms(model)
    factors = {}
    for name, moments in measured.items():
        layer = norms[name]
        stored = to_host(layer.running_var).astype(np.float64) + layer.eps
        seen = moments.var + (moments.mean - to_host(layer.running_mean)) ** 2 + layer.eps
        factors[name] = float(np.exp(np.median(np.abs(np.log(seen / stored)))))
    return factors


def recalibrate(model: ResNet, measured: dict[str, Moments]) -> None:
    """Store the measured statistics, and change gamma and beta so that the outputs stay.

    With old statistics m, v and new ones mu, s, for all x

        gamma (x - m) / sqrt(v + eps) + beta  ==  gamma' (x - mu) / sqrt(s + eps) + beta'

    if gamma' = gamma sqrt((s + eps) / (v + eps)) and beta' = beta + gamma (mu - m) / sqrt(v + eps).
    """
    norms = trainable_norms(model)
    for name, moments in measured.items():
        layer = norms[name]
        gamma, beta = (to_host(p.data).astype(np.float64) for p in (layer.weight, layer.bias))
        mean, var = (to_host(b).astype(np.float64) for b in (layer.running_mean, layer.running_var))
        scale = gamma / np.sqrt(var + layer.eps)
        _set(layer.weight.data, scale * np.sqrt(moments.var + layer.eps))
        _set(layer.bias.data, beta + scale * (moments.mean - mean))
        _set(layer.running_mean, moments.mean)
        _set(layer.running_var, moments.var)


def _set(array: Array, values: np.ndarray) -> None:
    """Write host values into a parameter or a buffer, wherever it lies."""
    device = "cpu" if isinstance(array, np.ndarray) else "gpu"
    array[...] = to_device(values.astype(array.dtype), device)
