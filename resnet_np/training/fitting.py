"""Where a run does not fit into the GPU's memory: what was asked, what there is, what would fit."""

import re

import numpy as np

from resnet_np.autograd import Tensor, cross_entropy, no_grad
from resnet_np.device import gpu_memory
from resnet_np.errors import UserError
from resnet_np.kernels import Array, get_array_module
from resnet_np.models.resnet import ResNet
from resnet_np.optim import Optimizer
from resnet_np.plan import PlanCache


def does_not_fit(
    error: MemoryError, model: ResNet, start: str, optimizer: Optimizer, x: Array, most: int
) -> UserError:
    """What to tell the user: `error`, and the largest batch below `most` that does fit.

    The run is over: model and optimizer are used for trying, and are good for nothing afterwards.

    x : the input of one image at stage `start`, [1, ...]
    """
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    wanted = f"{_size(int(asked[1].replace(',', '')))} more were asked for" if asked else str(error)
    free, total = gpu_memory()
    fits = largest_batch(model, start, optimizer, x, most)
    advice = (
        f"--batch-size {fits} fits"
        if fits
        else "not even one image fits; try a smaller --image-size or fewer stages with --unfreeze"
    )
    there = f"of {_size(total)}, {_size(free)} are free"
    return UserError(f"--device gpu: out of memory: {wanted}; {there}; {advice}")


def largest_batch(model: ResNet, start: str, optimizer: Optimizer, x: Array, most: int) -> int:
    """The largest batch below `most` with which a training step fits; 0 if there is none.

    By trying: a network does not need quite so much for each image.
    """
    fits, too_large = 0, most
    while too_large - fits > 1:
        size = (fits + too_large) // 2
        if _step_fits(model, start, optimizer, x, size):
            fits = size
        else:
            too_large = size
    return fits


def _step_fits(model: ResNet, start: str, optimizer: Optimizer, x: Array, size: int) -> bool:
    """Whether there is memory for a step, and for predicting, with so many images."""
    xp = get_array_module(x)
    try:
        images = Tensor(xp.concatenate([x] * size))
        for _ in range(2):  # the first time round leaves what the optimizer and the plan keep
            logits = model.train()(images, start=start).astype(np.float32)
            cross_entropy(logits, np.zeros(size, np.int64)).backward()
            optimizer.step()
            optimizer.zero_grad()
            with no_grad():
                model.eval()(images, start=start)
    except MemoryError:
        return False
    finally:
        optimizer.zero_grad()
        model.plans = PlanCache()  # with the buffers for so many images
    return True


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
