"""The options of a fine-tuning run, with the names that the command line gives them."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from resnet_np import optim
from resnet_np.errors import UserError

OPTIMIZERS = {
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
LEARNING_RATES = {"sgd": 0.01, "rmsprop": 0.001, "adam": 0.001, "adamw": 0.001}
TRUNK_SHARE = 0.1  # weights that know something are moved more carefully than a new head

# What may be said together with --resume; all else is taken from the checkpoint.
CHANGEABLE = ("data", "epochs", "device", "out", "cache")


@dataclass(frozen=True)
class Options:
    """One field per option. None means that the run decides: see `training.finetuning`."""

    data: str | None = None
    model: str | None = None
    weights: str | None = None
    unfreeze: str = "fc"
    recalibrate: bool = False
    head: tuple[int, ...] = ()
    dropout: float = 0.0
    epochs: int = 10
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

        Without --lr and --head-lr, the optimiser's usual rate for the head and a tenth of it for
        the trunk; --lr alone is for both.
        """
        usual = LEARNING_RATES[self.optimizer]
        lr = TRUNK_SHARE * usual if self.lr is None else self.lr
        head_lr = self.head_lr or (usual if self.lr is None else self.lr)
        return lr, head_lr

    def to_record(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self) | {"head": list(self.head)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Options":
        """The inverse of `to_record`. Raises TypeError for a record of something else."""
        return cls(**record | {"head": tuple(record["head"])})

    def resumed(self, given: dict[str, Any]) -> "Options":
        """These options, those of a checkpoint, with the given ones changed.

        Raises UserError if one is given that a run cannot change on its way.
        """
        fixed = [name for name in given if name not in CHANGEABLE]
        if fixed:
            names = ", ".join("--" + name.replace("_", "-") for name in fixed)
            raise UserError(f"{names}: cannot be changed with --resume; leave it out")
        return replace(self, **{"out": None} | given)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return {field.name: field.default for field in fields(cls)}
