"""Where a run does not fit into the GPU's memory: what was asked, what there is, what would fit."""

import re
from collections.abc import Callable

import numpy as np

from resnet_np.autograd import Tensor, cross_entropy, no_grad
from resnet_np.data.transfer import send_ahead
from resnet_np.device import gpu_memory
from resnet_np.errors import UserError
from resnet_np.models.resnet import ResNet
from resnet_np.optim import Optimizer
from resnet_np.plan import PlanCache
from resnet_np.training.features import Inputs


def does_not_fit(error: MemoryError, fits: Callable[[int], bool], most: int) -> UserError:
    """What to tell the user: `error`, and the largest batch below `most` that does fit."""
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    wanted = f"{_size(int(asked[1].replace(',', '')))} more were asked for" if asked else str(error)
    free, total = gpu_memory()
    largest = largest_batch(fits, most)
    advice = (
        f"--batch-size {largest} fits"
        if largest
        else "not even one image fits; try a smaller --image-size or fewer stages with --unfreeze"
    )
    there = f"of {_size(total)}, {_size(free)} are free"
    return UserError(f"--device gpu: out of memory: {wanted}; {there}; {advice}")


def largest_batch(fits: Callable[[int], bool], most: int) -> int:
    """The largest batch below `most` that fits; 0 if there is none.

    By trying: a network does not need quite so much for each image.
    """
    largest, too_large = 0, most
    while too_large - largest > 1:
        size = (largest + too_large) // 2
        if fits(size):
            largest = size
        else:
            too_large = size
    return largest


def step_fits(model: ResNet, start: str, optimizer: Optimizer, inputs: Inputs, size: int) -> bool:
    """Whether there is memory for training steps, and for predicting, with so many images.

    The run is over: model and optimizer are good for nothing afterwards.
    """
    loaded = np.repeat(inputs.load(np.array([0])), size, axis=0)
    try:
        # The first leaves what the optimizer and the plan keep. While it is trained on, the second
        # is on its way.
        for x in map(inputs.prepare, send_ahead([loaded] * 3, inputs.device)):
            images = Tensor(x)
            logits = model.train()(images, start=start, checked=True).astype(np.float32)
            cross_entropy(logits, np.zeros(size, np.int64)).backward()
            optimizer.step()
            optimizer.zero_grad()
            with no_grad():
                model.eval()(images, start=start, checked=True)
    except MemoryError:
        return False
    finally:
        optimizer.zero_grad()
        model.plans = PlanCache()  # with the buffers for so many images
    return True


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
