"""Less memory for more time: a module's inside is forgotten, and computed again on the way back.

The tape of a forward pass holds what each op saved: for a ResNet-50 about 100 MB an image. Where a
module only keeps its input, its own part of that exists for the short time in which the way back
passes through it (Chen et al. 2016, "Training deep nets with sublinear memory cost"). The price is
one more forward pass of the module. Set `recompute` on the modules that it shall be done for:

    model.layer1.recompute = model.layer2.recompute = True

The gradients are those without it, bit for bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resnet_np.autograd import Tensor, no_grad
from resnet_np.autograd.tensor import Op
from resnet_np.kernels import Array

if TYPE_CHECKING:
    from resnet_np.nn.module import Module


def recompute(module: "Module", x: Tensor) -> Tensor:
    """module.forward(x), of which the tape keeps x alone."""
    return Recompute(module)(x, *module.parameters())


class Recompute(Op):
    """Inputs: x and the module's parameters. Saved: x, and the state of random generators."""

    def __init__(self, module: "Module") -> None:
        self.module = module

    def forward(self, x: Array, *parameters: Array) -> Array:
        self.saved = x, _random_states(self.module)
        with no_grad():
            return self.module.forward(Tensor(x)).data

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        """Run forward again, now on a tape, and back through it; the module stays as it was."""
        x, states = self.saved
        again = Tensor(x, requires_grad=self.needs[0])
        parameters = self.module.parameters()
        with _as_it_was(self.module, states):
            self.module.forward(again).backward(gy)
            return again.grad, *(p.grad for p in parameters)


def _random_states(module: "Module") -> list[tuple[Any, Any]]:
    """The generators below a module (dropout has one), with their states."""
    generators = [m.rng for _, m in module.named_modules() if hasattr(m, "rng")]
    return [(rng, rng.bit_generator.state) for rng in generators]


@contextmanager
def _as_it_was(module: "Module", states: list[tuple[Any, Any]]) -> Iterator[None]:
    """Inside, generators draw what they drew before and parameters have no gradients yet.

    Afterwards buffers, generators and gradients are what they were: a running mean has seen this
    batch already, and what was inside is added to the gradients by the tape.
    """
    parameters = module.parameters()
    gradients = [p.grad for p in parameters]
    buffers = [(buffer, buffer.copy()) for _, buffer in module.named_buffers()]
    now = _random_states(module)
    for rng, state in states:
        rng.bit_generator.state = state
    for p in parameters:
        p.grad = None
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer[...] = before
        for rng, state in now:
            rng.bit_generator.state = state
        for p, grad in zip(parameters, gradients, strict=True):
            p.grad = grad
