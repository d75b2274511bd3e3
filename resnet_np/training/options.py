"""The options of a fine-tuning run, with the names that the command line gives them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from resnet_np import optim
from resnet_np.models import ResNet

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
        """The optimiser over all trainable parameters: a group for the trunk's, one for the head's.

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
        """The inverse of `to_record`. Raises TypeError or KeyError if it is another record."""
        return cls(**record | {"head": tuple(record["head"])})
