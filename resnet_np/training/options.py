"""The options of a fine-tuning run, with the names that the command line gives them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_type_hints

from resnet_np import optim
from resnet_np.device import DEVICES, PRECISIONS
from resnet_np.models import STAGES, ResNet

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": partial(optim.SGD, momentum=0.9),
    "rmsprop": optim.RMSprop,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
HEAD_RATES = {"sgd": 0.01, "rmsprop": 0.001, "adam": 0.003, "adamw": 0.003}
TRUNK_SHARE = 1 / 30  # weights that know something already are moved more carefully than a new head


@dataclass(frozen=True)
class Options:
    """One field for each option of `python -m resnet_np.finetune`, which describes them."""

    data: str | None = None
    model: str | None = None
    variant: str | None = None
    weights: str | None = None
    unfreeze: str = "fc"
    recalibrate: bool = False
    head: tuple[int, ...] = ()
    dropout: float = 0.0
    epochs: int = 20
    batch_size: int = 32
    optimizer: str = "adam"
    lr: float | None = None
    head_lr: float | None = None
    image_size: int | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    out: str | None = None
    cache: bool = True

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

        A group without parameters is left out.
        """
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        head = [p for name, p in named if name.startswith("fc.")]
        trunk = [p for name, p in named if not name.startswith("fc.")]
        rates = zip((trunk, head), self.learning_rates(), strict=True)
        groups = [{"params": params, "lr": lr} for params, lr in rates if params]
        return OPTIMIZERS[self.optimizer](groups, lr=HEAD_RATES[self.optimizer])

    def to_record(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self) | {"head": list(self.head)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Options":
        """The inverse of `to_record`. Raises TypeError, ValueError or KeyError if it is none."""
        options = cls(**record | {"head": tuple(record["head"])})
        number = int | float  # JSON may say 1 for 1.0
        numbers = {"dropout": number, "lr": number | None, "head_lr": number | None}
        for name, kind in (get_type_hints(cls) | numbers | {"head": tuple}).items():
            if not isinstance(getattr(options, name), kind):
                raise TypeError(f"{name} cannot be {getattr(options, name)!r}")
        _check_choice("optimizer", options.optimizer, OPTIMIZERS)
        _check_choice("unfreeze", options.unfreeze, STAGES)
        _check_choice("device", options.device, DEVICES)
        _check_choice("precision", options.precision, PRECISIONS)
        if min(options.epochs, options.batch_size) < 1:
            raise ValueError("epochs and batch_size must be 1 or more")
        if not all(0 <= n < math.inf for n in (options.seed, *options.learning_rates())):
            raise ValueError("seed and learning rates must be 0 or more")
        return options


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(choices)}")
