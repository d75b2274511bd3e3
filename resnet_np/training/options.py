"""The options of a fine-tuning run, with the names that the command line and recipes give them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from resnet_np import optim
from resnet_np.device import DEVICES, PRECISIONS
from resnet_np.models import STAGES, ResNet
from resnet_np.training.callbacks import FIGURES
from resnet_np.weights.contract import FITS

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": partial(optim.SGD, momentum=0.9),
    "rmsprop": optim.RMSprop,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
HEAD_RATES = {"sgd": 0.01, "rmsprop": 0.001, "adam": 0.003, "adamw": 0.003}
TRUNK_SHARE = 1 / 30  # weights that know something already are moved more carefully than a new head
KEPT = ("last", "best")
# What a number must be at least, and what it must be below.
LIMITS = {
    "dropout": (0, 1), "stage_decay": (1e-9, 1e9), "momentum": (0, 1),
    "weight_decay": (0, math.inf),
    "warmup": (0, 1e9), "clip": (1e-30, math.inf), "label_smoothing": (0, 1), "ema": (0, 1),
    "views": (0, 2**31), "patience": (1, math.inf), "save_every": (-math.inf, math.inf),
    "save_epochs": (1, math.inf),
}  # fmt: skip

Record = TypeVar("Record")


@dataclass(frozen=True)
class Phase:
    """A part of a run that trains other stages than the part before it.

    What is None is as it is for the whole run.
    """

    unfreeze: str
    epochs: int
    lr: float | None = None
    head_lr: float | None = None
    schedule: str | None = None
    warmup: float | None = None


@dataclass(frozen=True)
class Options:
    """One field for each option of `python -m resnet_np.finetune`, which describes them.

    A recipe is a TOML file of these names.
    """

    data: str | None = None
    model: str | None = None
    variant: str | None = None
    weights: str | None = None
    unfreeze: str = "fc"
    recalibrate: bool = False
    head: tuple[int, ...] = ()
    dropout: float = 0.0
    epochs: int = 20
    phases: tuple[Phase, ...] = ()
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adam"
    lr: float | None = None
    head_lr: float | None = None
    stage_decay: float = 1.0
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str = "Constant"
    warmup: float = 0.0
    clip: float | None = None
    label_smoothing: float = 0.0
    class_weights: str | None = None
    ema: float | None = None
    augment: str | None = None
    views: int = 0
    patience: int | None = None
    keep: str = "last"
    watch: str = "validation_loss"
    save_every: float = 60.0
    save_epochs: int | None = None
    image_size: int | None = None
    fit: str | None = None
    names: str | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    out: str | None = None
    cache: bool = True
    doctor: bool = True

    def by_phase(self) -> list["Options"]:
        """The options of each part of the run, at least of one."""
        if not self.phases:
            return [self]
        given = [{k: v for k, v in asdict(p).items() if v is not None} for p in self.phases]
        return [replace(self, phases=(), **changes) for changes in given]

    def learning_rates(self) -> tuple[float, float]:
        """(for the unfrozen stages of the trunk, for the head).

        Without --lr and --head-lr, the optimizer's rate in HEAD_RATES for the head and a small
        share of it for the trunk; --lr alone is for both.
        """
        usual = HEAD_RATES[self.optimizer]
        lr = TRUNK_SHARE * usual if self.lr is None else self.lr
        head_lr = usual if self.lr is None else self.lr
        return lr, head_lr if self.head_lr is None else self.head_lr

    def make_optimizer(self, model: ResNet) -> optim.Optimizer:
        """The optimizer over all trainable parameters: a group for the trunk's, one for the head's.

        With stage_decay, each stage of the trunk has a group of its own: layer4 the trunk's rate,
        each stage before it stage_decay times that of the next (Howard & Ruder 2018, "Universal
        language model fine-tuning for text classification", section 3.2). A group without
        parameters is left out.
        """
        groups: dict[str, dict[str, Any]] = {}
        lr, head_lr = self.learning_rates()
        for name, p in model.named_parameters():
            if p.requires_grad:
                stage = name.partition(".")[0] if name.startswith(("layer", "fc")) else "stem"
                depth = STAGES.index("layer4") - STAGES.index(stage)
                rate = head_lr if stage == "fc" else lr * self.stage_decay**depth
                kind = stage if stage == "fc" or self.stage_decay != 1 else "trunk"
                groups.setdefault(kind, {"params": [], "lr": rate})["params"].append(p)
        more = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        given = {name: value for name, value in more.items() if value is not None}
        make = OPTIMIZERS[self.optimizer]
        return make([*groups.values()], lr=HEAD_RATES[self.optimizer], **given)

    def to_record(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self) | {"head": list(self.head), "phases": [asdict(p) for p in self.phases]}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Options":
        """The inverse of `to_record`. Raises TypeError, ValueError or KeyError if it is none."""
        phases = tuple(_checked(Phase(**phase)) for phase in record.get("phases", ()))
        options = cls(**record | {"head": tuple(record["head"]), "phases": phases})
        for part in (_checked(options), *options.by_phase()):
            _check_choice("optimizer", part.optimizer, OPTIMIZERS)
            _check_choice("unfreeze", part.unfreeze, STAGES)
            _check_choice("device", part.device, DEVICES)
            _check_choice("precision", part.precision, PRECISIONS)
            _check_choice("keep", part.keep, KEPT)
            _check_choice("watch", part.watch, FIGURES)
            _check_choice("fit", part.fit, (None, *FITS))
            if min(part.epochs, part.batch_size, part.accumulate) < 1:
                raise ValueError("epochs, batch_size and accumulate must be 1 or more")
            if not all(0 <= n < math.inf for n in (part.seed, *part.learning_rates())):
                raise ValueError("seed and learning rates must be 0 or more")
            for name, (low, high) in LIMITS.items():
                value = getattr(part, name)
                if value is not None and not low <= value < high:
                    raise ValueError(f"{name} is {value!r}, not from {low:g} to below {high:g}")
        return options


def _checked(record: Record) -> Record:
    """The same. Raises TypeError if a field is of another kind than it should be."""
    for name, kind in get_type_hints(type(record)).items():
        value = getattr(record, name)
        kinds = get_args(kind) if isinstance(kind, UnionType) else (get_origin(kind) or kind,)
        if float in kinds:  # JSON may say 1 for 1.0
            kinds = (*kinds, int)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError(f"{name} cannot be {value!r}")
    return record


def _check_choice(name: str, value: str | None, choices: Iterable[str | None]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(map(str, choices))}")
