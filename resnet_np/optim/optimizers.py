"""Optimizers: PyTorch's rules, with parameter groups. The arithmetic is in `resnet_np.kernels`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from resnet_np import kernels
from resnet_np.autograd import Tensor
from resnet_np.kernels import Array, get_array_module
from resnet_np.nn import Parameter

State = dict[str, Any]  # what an optimizer remembers of a parameter
Member = tuple[Parameter, State]


class Optimizer:
    """What all optimizers share: groups, state, and reading and writing them.

    Parameters
    ----------
    params : parameters; or groups, dicts such as {"params": [...], "lr": 0.001}, whose other
        entries replace the optimizer's defaults for these parameters
    defaults : the options of a group that does not give its own; `groups` holds them, and a
        schedule may change them there

    `step` passes over parameters without a gradient, so frozen ones stay as they are, bit for bit.
    """

    def __init__(
        self, params: Sequence[Parameter] | Sequence[dict[str, Any]], defaults: dict[str, Any]
    ) -> None:
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: there is no parameter to train")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            if not isinstance(group, dict) or "params" not in group:
                raise ValueError(f'{type(self).__name__}: a group is a dict with "params"')
            unknown = set(group) - set(defaults) - {"params"}
            if unknown:
                raise ValueError(f"{type(self).__name__}: unknown options {sorted(unknown)}")
        self.groups: list[dict[str, Any]] = [
            {**defaults, **group, "params": list(group["params"])} for group in groups
        ]
        if min(float(group["lr"]) for group in self.groups) < 0:
            raise ValueError(f"{type(self).__name__}: lr must not be negative")
        self._parameters: list[Parameter] = [p for g in self.groups for p in g["params"]]
        for p in self._parameters:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{type(self).__name__}: params must be parameters, as of model.parameters(), "
                    f"not {type(p).__name__}"
                )
        if len({id(p) for p in self._parameters}) < len(self._parameters):
            raise ValueError(f"{type(self).__name__}: a parameter is in two groups")
        self._state: list[State] = [{} for _ in self._parameters]

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for p in self._parameters:
            p.grad = None

    def gradients(self) -> list[Array]:
        """Those of all parameters that have one."""
        return [p.grad for p in self._parameters if p.grad is not None]

    def step(self) -> None:
        """Change every parameter that has a gradient, in place."""
        states: Iterator[State] = iter(self._state)
        for group in self.groups:
            members = [(p, next(states)) for p in group["params"]]
            for alike in _alike([(p, state) for p, state in members if p.grad is not None]):
                self._change(alike, group)

    def _change(self, members: list[Member], options: dict[str, Any]) -> None:
        """One step of parameters that are alike."""
        # Held until the step is counted, or a plan might let go of them.
        ws = [p.data for p, _ in members]
        gs = [p.grad for p, _ in members]
        try:
            self._update(ws, gs, [state for _, state in members], options)
        finally:  # counted even if it was broken off: some may have changed
            for p, _ in members:
                p.version += 1

    def _update(
        self, ws: list[Array], gs: list[Array], states: list[State], options: dict[str, Any]
    ) -> None:
        """Call the kernel."""
        raise NotImplementedError

    def kept(self, options: dict[str, Any]) -> tuple[str, ...]:
        """The names of what it remembers of each parameter, once it has changed it."""
        return ()

    def incomplete(self) -> int:
        """Of how many parameters it does not remember all that it does once it has changed them."""
        states = iter(self._state)
        return sum(
            not next(states).keys() >= set(self.kept(group))
            for group in self.groups
            for _ in group["params"]
        )

    def state_dict(self) -> dict[str, Any]:
        """Options of each group, and "<parameter number>.<name>" -> array or number."""
        options = [{k: v for k, v in g.items() if k != "params"} for g in self.groups]
        state = {
            f"{i}.{name}": value for i, s in enumerate(self._state) for name, value in s.items()
        }
        return {"groups": options, "state": state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """The inverse of `state_dict`, for an optimizer made over the same parameters.

        Raises ValueError if they are others, as far as numbers and shapes can tell.
        """
        if len(saved["groups"]) != len(self.groups):
            raise ValueError("the saved optimizer has other parameter groups")
        states: list[State] = [{} for _ in self._parameters]
        for key, value in saved["state"].items():
            number, _, name = key.partition(".")
            if not number.isdecimal() or int(number) >= len(states):
                raise ValueError(f"the saved optimizer has {key!r}, this one no such parameter")
            w = self._parameters[int(number)].data
            if hasattr(value, "shape") and value.ndim:
                if value.shape != w.shape:
                    raise ValueError(
                        f"the saved optimizer's {key} has shape {value.shape} instead of {w.shape}"
                    )
                value = get_array_module(w).array(value)
            states[int(number)][name] = value
        self._state = states
        for group, options in zip(self.groups, saved["groups"], strict=True):
            group.update(options)


def _alike(members: list[Member]) -> Iterable[list[Member]]:
    """Lists of what one call of a kernel can change: of one dtype, on one device.

    And with one number of steps, which Adam needs: a parameter may have had no gradient at first.
    """
    lists: dict[Any, list[Member]] = {}
    for p, state in members:
        device = getattr(p.data.device, "id", None)  # NumPy's device is a word, CuPy's has a number
        kind = (p.data.dtype, device, int(state.get("step", 0)))
        lists.setdefault(kind, []).append((p, state))
    return lists.values()


def _zeros(states: list[State], name: str, like: list[Array]) -> list[Array]:
    """The state arrays of this name, zero at first."""
    for state, w in zip(states, like, strict=True):
        if name not in state:
            state[name] = get_array_module(w).zeros_like(w)
    return [state[name] for state in states]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013), see `kernels.sgd_step`."""

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum")
        options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **options})

    def kept(self, options: dict[str, Any]) -> tuple[str, ...]:
        return ("velocity",) if options["momentum"] else ()

    def _update(
        self, ws: list[Array], gs: list[Array], states: list[State], options: dict[str, Any]
    ) -> None:
        vs = _zeros(states, "velocity", ws) if options["momentum"] else None
        kernels.of(ws[0]).sgd_step(
            ws, gs, vs, options["lr"], options["momentum"], options["nesterov"],
            options["weight_decay"],
        )  # fmt: skip


class RMSprop(Optimizer):
    """Divide by a running root mean square of the gradient; see `kernels.rmsprop_step`."""

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict[str, Any]],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **options})

    def kept(self, options: dict[str, Any]) -> tuple[str, ...]:
        return ("square", "velocity") if options["momentum"] else ("square",)

    def _update(
        self, ws: list[Array], gs: list[Array], states: list[State], options: dict[str, Any]
    ) -> None:
        squares = _zeros(states, "square", ws)
        vs = _zeros(states, "velocity", ws) if options["momentum"] else None
        kernels.of(ws[0]).rmsprop_step(
            ws, gs, squares, vs, options["lr"], options["alpha"], options["eps"],
            options["momentum"], options["weight_decay"],
        )  # fmt: skip


class Adam(Optimizer):
    """Kingma & Ba 2015; weight decay, if any, is added to the gradient. See `kernels.adam_step`."""

    decoupled = False

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **options})

    def kept(self, options: dict[str, Any]) -> tuple[str, ...]:
        return "mean", "square", "step"

    def _update(
        self, ws: list[Array], gs: list[Array], states: list[State], options: dict[str, Any]
    ) -> None:
        ms, vs = _zeros(states, "mean", ws), _zeros(states, "square", ws)
        step = int(states[0].get("step", 0)) + 1
        for state in states:
            state["step"] = step
        kernels.of(ws[0]).adam_step(
            ws, gs, ms, vs, step, options["lr"], tuple(options["betas"]), options["eps"],
            options["weight_decay"], self.decoupled,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
