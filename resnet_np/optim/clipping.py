"""Gradients that are too large are made shorter, not turned."""

import math

from resnet_np.kernels import get_array_module
from resnet_np.optim.optimizers import Optimizer


def clip_gradients(optimizer: Optimizer, most: float) -> float:
    """Scale all gradients of an optimizer so that, as one vector, they are no longer than `most`.

        g *= min(1, most / (|g| + 1e-6)),    |g|^2 = the sum of all squares

    in place, between `backward` and `step`. Gives |g| as it was; one that is no finite number is
    for the caller to see, and changes nothing. Pascanu, Mikolov & Bengio 2013, "On the difficulty
    of training recurrent neural networks", algorithm 1; as in PyTorch's `clip_grad_norm_`, with the
    same 1e-6. Raises ValueError unless `most` is positive.
    """
    if not most > 0:
        raise ValueError(f"clip_gradients: most must be more than 0, not {most!r}")
    gradients = optimizer.gradients()
    # Summed where they lie, and fetched once.
    squares = [get_array_module(g).square(g, dtype="float64").sum() for g in gradients]
    norm = math.sqrt(float(sum(squares)))
    if most < norm < math.inf:
        for g in gradients:
            g *= g.dtype.type(most / (norm + 1e-6))
    return norm
