"""Modules: layers that own parameters, and trees of them with dotted names."""

from collections.abc import Callable, Iterator
from typing import Any, Self

from resnet_np.autograd import Tensor
from resnet_np.device import DEVICES, to_device
from resnet_np.errors import UserError
from resnet_np.kernels import Array


class Parameter(Tensor):
    """A tensor that training changes: it requires a gradient unless it is frozen."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=True)


class Module:
    """A part of a network.

    A subclass assigns its parameters, its buffers (arrays that are stored but not trained, such as
    running statistics) and its sub-modules as attributes, in the order in which they should be
    listed, and defines `forward`. Names are the path of attributes: `layer1.0.conv1.weight`.

    training : set by `train()` and `eval()`
    frozen : set by `freeze()` and `unfreeze()`. Frozen means all three: the parameters get no
        gradient, the running statistics are not touched, and batch norm uses them instead of the
        batch's. The gradient still flows through to the input.
    hook : a function that is shown the input and the output of each call: to look inside a network
    """

    def __init__(self) -> None:
        self.training = True
        self.frozen = False
        self.hook: Callable[[Tensor, Tensor], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        """Run `forward`."""
        y = self.forward(x, **options)
        if self.hook is not None:
            self.hook(x, y)
        return y

    # --- what is inside --------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules directly below, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module (named "") and all below, in order."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return self._named(Parameter)

    def parameters(self) -> list[Parameter]:
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if hasattr(value, "dtype") and not isinstance(value, Tensor):
                    yield (f"{path}.{name}" if path else name), value

    def summary(self, input_shape: tuple[int, int, int] = (224, 224, 3)) -> str:
        """The table of layers, output shapes and parameters, for an input [H, W, C]; print it."""
        from resnet_np.nn.summary import summary  # it needs this class

        return summary(self, input_shape)

    # --- modes -----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and all below: dropout drops, batch norm learns."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode: `train(False)`."""
        return self.train(False)

    def freeze(self, *names: str) -> Self:
        """Freeze the modules with these names and all below them; everything without names."""
        return self._set_frozen(names, True)

    def unfreeze(self, *names: str) -> Self:
        """The opposite of `freeze`."""
        return self._set_frozen(names, False)

    def _set_frozen(self, names: tuple[str, ...], frozen: bool) -> Self:
        modules = dict(self.named_modules())
        unknown = [name for name in names if name not in modules]
        if unknown:
            top = ", ".join(name for name, _ in self.children())
            raise UserError(f"no module is named {', '.join(unknown)}; the top ones are {top}")
        for top_module in [modules[name] for name in names] or [self]:
            for _, module in top_module.named_modules():
                module.frozen = frozen
            for p in top_module.parameters():
                p.requires_grad = not frozen
                p.grad = None
        return self

    def to(self, target: Any) -> Self:
        """Move to a device ("cpu", "gpu") or convert to a floating-point dtype, in place.

        Make the optimiser afterwards: its state follows the parameters that it was given.
        """
        for _, module in self.named_modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Parameter):
                    value.data, value.grad = _converted(value.data, target), None
                elif hasattr(value, "dtype"):
                    setattr(module, name, _converted(value, target))
        return self

    # --- reading and writing ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Name -> array for every parameter and buffer. The arrays are the module's own."""
        state = {name: p.data for name, p in self.named_parameters()}
        return state | dict(self.named_buffers())

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Copy these arrays into the parameters and buffers.

        Names and shapes must match exactly; nothing is loaded unless all do.

        Raises
        ------
        UserError
            that lists every missing name, every unknown name and every wrong shape
        """
        own = self.state_dict()
        problems = [f"{name} is missing" for name in own if name not in state]
        problems += [f"{name} is not in the model" for name in state if name not in own]
        problems += [
            f"{name} has shape {tuple(state[name].shape)} instead of {array.shape}"
            for name, array in own.items()
            if name in state and tuple(state[name].shape) != array.shape
        ]
        if problems:
            raise UserError(f"these weights do not fit the model: {'; '.join(problems)}")
        for name, array in own.items():
            array[...] = state[name]


def _converted(array: Array, target: Any) -> Array:
    """The array on a device, or in a dtype."""
    return to_device(array, target) if target in DEVICES else array.astype(target)
