"""Modules: layers that own parameters, and trees of them with dotted names."""

from collections.abc import Callable, Iterator, Mapping
from threading import RLock
from typing import Any, Self
from weakref import ref

import numpy as np

from resnet_np.autograd import Tensor
from resnet_np.autograd.tensor import is_recording
from resnet_np.device import DEVICES, to_device
from resnet_np.errors import UserError, some
from resnet_np.kernels import Array, get_array_module
from resnet_np.nn.recompute import recompute

_moving = RLock()  # held while some parameter's array comes or goes


class Parameter(Tensor):
    """A tensor that training changes: it requires a gradient unless it is frozen.

    For prediction its numbers are kept in the order in which a kernel reads them, and nowhere else
    until somebody asks for `data`, which makes the array anew. Assigning it counts up `version`.
    """

    version = 0
    _array: Array | None
    _unpack: Callable[[], Array]

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=True)

    @property
    def data(self) -> Array:
        array = self._array
        if array is None:
            with _moving:
                if self._array is None:  # no other thread was faster
                    self._array = self._unpack()
                    del self._unpack
                array = self._array
        return array

    @data.setter
    def data(self, array: Array) -> None:
        with _moving:
            self._array, self.version = array, self.version + 1
            vars(self).pop("_unpack", None)

    def pack_away(self, unpack: Callable[[], Array], version: int) -> None:
        """Let go of the array, of which `unpack` makes another with the same numbers.

        Not if somebody else has it, or a part of it, and could still write into it; and not if
        there is another version by now.
        """
        with _moving:
            if self._array is None or self._array.base is not None or self.version != version:
                return
            seen = ref(self._array)
            self._array = None
            self._array = seen()  # still there if somebody else has it
            if self._array is None:
                self._unpack = unpack

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the array itself."""
        return vars(self) | {"_array": self.data}


class Module:
    """A part of a network.

    A subclass assigns its parameters, its buffers (arrays that are stored but not trained, such as
    running statistics) and its sub-modules as attributes, and defines `forward`. Names are the path
    of attributes: `layer1.0.conv1.weight`. They are listed in the order of assignment, a module's
    own in front of those of the modules below it. Modules in a list have no such path: put them
    into a `Sequential`, whose attributes are "0", "1", ...

    training : set by `train()` and `eval()`
    frozen : set by `freeze()` and `unfreeze()`. Frozen means all three: the parameters get no
        gradient, the running statistics are not touched, and batch norm uses them instead of the
        batch's. The gradient still flows through to the input.
    hook : a function that is shown the input and the output of each call: to look inside a network
    recompute : keep nothing of the inside for the way back but compute it again: see `recompute.py`
    """

    # First values, which belong to the class: a subclass has no `super().__init__()` to forget.
    training = True
    frozen = False
    hook: Callable[[Tensor, Tensor], None] | None = None
    recompute = False

    def __setattr__(self, name: str, value: Any) -> None:
        entries = value.values() if isinstance(value, dict) else value
        if isinstance(value, list | tuple | dict) and any(
            isinstance(entry, Module | Parameter) for entry in entries
        ):
            raise TypeError(
                f"{type(self).__name__}.{name}: modules and parameters inside a "
                f"{type(value).__name__} have no names: use nn.Sequential(*modules) or one "
                "attribute for each"
            )
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        """Run `forward`."""
        y = recompute(self, x) if self.recompute and is_recording() else self.forward(x, **options)
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
                if _is_buffer(value):
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
        """Freeze the modules with these names and all below them.

        Without names, and so with `*[]`, everything.
        """
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

        Make the optimizer afterwards: its state follows the parameters that it was given.
        """
        if not _is_target(target):
            raise UserError(f'to: "cpu", "gpu" or a floating-point dtype, not {target!r}')
        for _, module in self.named_modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Parameter):
                    value.data, value.grad = _converted(value.data, target), None
                elif _is_buffer(value):
                    setattr(module, name, _converted(value, target))
        return self

    # --- reading and writing ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Name -> array for every parameter, then for every buffer: the module's own arrays."""
        state = {name: p.data for name, p in self.named_parameters()}
        return state | dict(self.named_buffers())

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Copy these arrays into the parameters and buffers.

        Names and shapes must match exactly; nothing is loaded unless all do.

        Raises
        ------
        UserError
            whose `details` list every missing name, every unknown name and every tensor of another
            shape or kind of number; the message has the first few of each
        """
        own = self.state_dict()
        check_fit("these weights do not fit the model", own, state)
        for name, array in own.items():
            array[...] = get_array_module(array).asarray(state[name])
        for p in self.parameters():
            p.version += 1


def check_fit(complaint: str, own: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Raise UserError, with everything that is wrong, unless `state` can be copied into `own`."""
    both = [(name, array, state[name]) for name, array in own.items() if name in state]
    kinds = (
        [f"{name} is missing" for name in own if name not in state],
        [f"{name} is not in the model" for name in state if name not in own],
        [
            f"{name} has shape {tuple(new.shape)} instead of {array.shape}"
            for name, array, new in both
            if tuple(new.shape) != array.shape
        ],
        [
            f"{name} holds {new.dtype} instead of {array.dtype}"
            for name, array, new in both
            if new.dtype.kind != array.dtype.kind
        ],
    )
    details = [problem for kind in kinds for problem in kind]
    if details:
        raise UserError(
            f"{complaint}: {'; '.join(some(kind, '; ') for kind in kinds if kind)}", details
        )


def _is_buffer(value: Any) -> bool:
    return hasattr(value, "dtype") and not isinstance(value, Tensor | np.generic)


def _is_target(target: Any) -> bool:
    """Whether `target` is a device or a floating-point dtype."""
    try:
        return target in DEVICES or np.dtype(target).kind == "f"
    except TypeError:
        return False


def _converted(array: Array, target: Any) -> Array:
    """The array on a device, or in a dtype."""
    return to_device(array, target) if target in DEVICES else array.astype(target)
