"""Which plans a model has, and when they are out of date."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from operator import is_
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from resnet_np.autograd import Tensor
from resnet_np.autograd.tensor import is_recording
from resnet_np.kernels.fused import in_turn
from resnet_np.nn import Module, Parameter
from resnet_np.plan.plan import Plan
from resnet_np.plan.steps import Prepared
from resnet_np.plan.trace import trace

KEPT = 4  # plans of a model: for prediction and for training, in two sizes


class Part(NamedTuple):
    """A stage of a network: what it computes, and the modules that do, by name."""

    run: Callable[[Tensor], Tensor]
    modules: Mapping[str, Module]


class PlanCache:
    """The plans of one model. Copies of the model, pickled ones too, begin with none."""

    def __init__(self) -> None:
        self._entries: dict[tuple, _Entry] = {}
        self._prepared: WeakValueDictionary[tuple, Prepared] = WeakValueDictionary()
        self._lock = Lock()  # so that two threads do not both make the same plan

    def __reduce__(self) -> tuple:
        return PlanCache, ()

    def run(self, parts: Sequence[Part], x: Tensor) -> Tensor:
        """The parts one after the other: as many as can be by a plan, the rest layer by layer."""
        planned, plan = self.find(parts, x)
        if plan is not None:
            x = Tensor(plan(x.data))
        return _layer_by_layer(parts[planned:], x)

    def find(self, parts: Sequence[Part], x: Tensor) -> "tuple[int, Plan | None]":
        """How many of the parts, from the first one on, can run by a plan; and that plan.

        It has today's weights, and is for images, or features, of the shape of those in x.
        """
        if not _is_constant_batch(x):
            return 0, None
        names = tuple(name for part in parts for name in part.modules)
        key = names, x.shape[1:], str(x.dtype), is_recording()
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None or not entry.is_fresh(parts):
                entry = _Entry(parts, x)
            if entry.plan is not None:
                with in_turn(x.data):  # another thread's run may be the next to read what is made
                    entry.plan.refresh(self._prepared)
            self._entries[key] = entry  # the latest one last
            if len(self._entries) > KEPT:
                del self._entries[next(iter(self._entries))]
        return entry.planned, entry.plan


class _Entry:
    """A plan, and what the modules were like when it was made.

    The plan depends on which modules there are and on their attributes, all of which are noted:
    modes, strides, parameters (as objects: a plan itself looks after their numbers).
    """

    def __init__(self, parts: Sequence[Part], x: Tensor) -> None:
        self.roots = [module for part in parts for module in part.modules.values()]
        self.seen = [(m, tuple(vars(m).values())) for part in parts for m in _tree(part)]
        self.parameters = [v for _, values in self.seen for v in values if isinstance(v, Parameter)]
        self.recorded = self._recorded()
        self.planned = _settled(parts)
        self.plan: Plan | None = None
        if self.planned:
            planned = parts[: self.planned]
            traced = trace(partial(_layer_by_layer, planned), x.data[:1])
            if traced.records:  # else x goes through as it is
                self.plan = Plan(traced, _names(planned))
            else:
                self.planned = 0

    def is_fresh(self, parts: Sequence[Part]) -> bool:
        roots = [module for part in parts for module in part.modules.values()]
        return (
            all(map(is_, roots, self.roots))
            and all(_same(vars(module).values(), values) for module, values in self.seen)
            and self._recorded() == self.recorded
        )

    def _recorded(self) -> list[bool]:
        """For each parameter whether an op with it goes on the tape."""
        return [p.requires_grad for p in self.parameters] if is_recording() else []


def _same(values: Collection[Any], seen: Collection[Any]) -> bool:
    """Whether these are the same objects."""
    return len(values) == len(seen) and all(map(is_, values, seen))


def _layer_by_layer(parts: Sequence[Part], x: Tensor) -> Tensor:
    for part in parts:
        x = part.run(x)
    return x


def _is_constant_batch(x: Any) -> bool:
    """Whether x is a batch of images or features that no gradient has to come back to."""
    if not isinstance(x, Tensor) or x.ndim < 2 or x.size == 0:
        return False
    return not (is_recording() and x.requires_grad)


def _settled(parts: Sequence[Part]) -> int:
    """How many parts, from the first one on, nobody learns from or looks into."""
    for i, part in enumerate(parts):
        if not (_is_ours(part.run) and all(map(_is_settled, _tree(part)))):
            return i
    return len(parts)


def _is_settled(module: Module) -> bool:
    """Whether a trace says all about a module, also for the next batch.

    It is frozen or in evaluation mode, nobody looks into it, and it is one of this package: what
    other people's do besides their ops, a trace cannot know.
    """
    attributes = vars(module)
    recorded = is_recording() and any(
        isinstance(value, Parameter) and value.requires_grad for value in attributes.values()
    )
    looked_into = module.hook is not None or "forward" in attributes
    learning = recorded or (module.training and not module.frozen)
    return not looked_into and not learning and _is_ours(type(module))


def _is_ours(thing: Any) -> bool:
    return thing.__module__.startswith("resnet_np.")


def _tree(part: Part) -> Iterator[Module]:
    """All modules of a part."""
    for root in part.modules.values():
        for _, module in root.named_modules():
            yield module


def _names(parts: Sequence[Part]) -> dict[int, str]:
    """The name of each parameter, by its id."""
    return {
        id(parameter): f"{name}.{path}"
        for part in parts
        for name, module in part.modules.items()
        for path, parameter in module.named_parameters()
    }
