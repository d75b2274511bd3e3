"""Training with float16: the loss is made larger, so that small gradients are not rounded to 0."""

from resnet_np import kernels
from resnet_np.autograd import Tensor
from resnet_np.kernels import get_array_module
from resnet_np.optim.clipping import clip_gradients
from resnet_np.optim.optimizers import Optimizer


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018, "Mixed precision training", section 3.2).

    float16 has nothing between 0 and 6e-8, and many gradients of activations lie there. So the loss
    is multiplied by `scale` in front of the way back, and the parameters' gradients, which are
    float32, are divided by it. What is too large becomes infinite: then the step is left out and
    the scale is halved. After `patience` steps without that it is doubled.

    (bfloat16 has float32's range, and needs none of this.)
    """

    def __init__(self, scale: float = 2.0**16, patience: int = 2000) -> None:
        self.scale, self.patience, self.good_steps = scale, patience, 0

    def backward(self, loss: Tensor) -> None:
        """`loss.backward()`, with gradients `scale` times as large."""
        loss.backward(get_array_module(loss.data).full_like(loss.data, self.scale))

    def step(self, optimizer: Optimizer, most: float | None = None) -> bool:
        """Take the scale out of the gradients and the optimizer's step; whether there was one.

        most : the gradients are clipped to this length in between, see `clip_gradients`
        """
        gradients = optimizer.gradients()
        if not kernels.of(gradients[0]).unscale_step(gradients, 1 / self.scale):
            self.scale, self.good_steps = self.scale / 2, 0
            return False
        if most is not None:
            clip_gradients(optimizer, most)
        optimizer.step()
        self.good_steps += 1
        if self.good_steps == self.patience:
            self.scale, self.good_steps = self.scale * 2, 0
        return True

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, saved: dict[str, float]) -> None:
        self.scale, self.good_steps = float(saved["scale"]), int(saved["good_steps"])
