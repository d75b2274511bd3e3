"""A training run in one file: enough to predict with, and enough to go on from.

An `.npz` with the arrays `model/<name>` and `optimizer/<name>`; where `model` has averaged weights,
those that are trained are `trained/<name>`. And a JSON record:

    format      1
    model       the arguments that rebuild the network: ResNet(**record["model"])
    classes     class names, in the order of the logits
    contract    the input that the network expects (`Contract.to_record`)
    image_size  side of the square images it was trained on
    optimizer   {"name", "groups", "numbers"}: what of the optimizer's state is no array
    epoch       how many epochs are done, of all phases
    random      states of the generators: "order" of the images, as it was when the epoch began, and
                each dropout layer's
    arguments   the options of the run
    images      how many images each split has
    history     one record of figures per epoch
    fingerprints  of each split's images (`Images.fingerprint`)
    weights     the report of where the tensors of --weights went, or null
    scaler      the state of the loss scaler of a run in float16; else not there
    phase       the number of the phase under way, from 0 on
    fit         where the training of this phase stands (`Fit.state_dict`)
    average     {"updates"}: how many steps the averaged weights have seen; else not there

The first four after `format` are enough to predict. The others are needed to go on, except for
those after `history`, which the first checkpoints did not have.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.kernels import to_host
from resnet_np.models.resnet import SMALLEST_IMAGE, ResNet
from resnet_np.nn import Dropout
from resnet_np.training.callbacks import Callback, load_state
from resnet_np.training.fit import Fit
from resnet_np.training.options import Options
from resnet_np.weights import Contract, read, read_npz, save_npz

TO_PREDICT = ("model", "classes", "contract", "image_size")
TO_GO_ON = ("optimizer", "epoch", "random", "arguments", "images", "history")
FIGURES = (
    "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds",
)  # fmt: skip

# Where the training of a checkpoint without "fit" stands.
BETWEEN_EPOCHS: dict[str, Any] = {
    "batch": 0, "progress": (0, 0.0, 0.0), "seconds": 0.0, "waiting": 0.0, "plateau": None,
    "stopped": "", "callbacks": {},
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a checkpoint file: the arrays by part, the record, and what both the
    prediction and the training need of it.
    """

    path: str
    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    trained: dict[str, np.ndarray]
    record: dict[str, Any]
    classes: tuple[str, ...]
    contract: Contract
    image_size: int


def save_checkpoint(path: str | os.PathLike[str], fit: Fit, record: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all. `record` brings what a training cannot say: all but
    model, optimizer, random, scaler, average and fit. Raises UserError.
    """
    model, saved = fit.model, fit.optimizer.state_dict()
    assert isinstance(model, ResNet)
    arrays = {f"model/{name}": to_host(a) for name, a in model.state_dict().items()}
    if fit.average is not None:
        arrays |= {f"trained/{name.partition('/')[2]}": a for name, a in arrays.items()}
        arrays |= {f"model/{name}": to_host(a) for name, a in fit.average.average.items()}
    numbers = {}
    for name, value in saved["state"].items():
        if hasattr(value, "dtype"):
            arrays[f"optimizer/{name}"] = to_host(value)
        else:
            numbers[name] = value
    own = {
        "model": model.config,
        "optimizer": {
            "name": type(fit.optimizer).__name__,
            "groups": saved["groups"],
            "numbers": numbers,
        },
        "random": {name: _state(layer.rng) for name, layer in _dropouts(model).items()},
        "fit": fit.state_dict(),
    }
    own["random"]["order"] = own["fit"].pop("order")
    if fit.scaler is not None:
        own["scaler"] = fit.scaler.state_dict()
    if fit.average is not None:
        own["average"] = {"updates": fit.average.updates}
    save_npz(path, arrays, record | own)


def load_checkpoint(path: str | os.PathLike[str], to_go_on: bool = False) -> Checkpoint:
    """Read a checkpoint. With `to_go_on`, it must hold the state of the training run, too.

    Raises UserError if the file is missing, damaged, or holds something else.
    """
    arrays, record = read_npz(path)
    if record is None:
        raise _bare_weights(path)
    missing = [key for key in TO_PREDICT + TO_GO_ON * to_go_on if key not in record]
    if missing:
        purpose = "go on training" if to_go_on else "predict"
        raise UserError(f"{path}: cannot {purpose}: its record has no {', '.join(missing)}")
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "trained": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part in parts and rest:
            parts[part][rest] = array
    try:
        facts = _facts(record)
        if to_go_on:
            _check_run(record)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise UserError(f"{path}: its record is damaged: {error}") from error
    model, optimizer, trained = parts.values()
    return Checkpoint(os.fspath(path), model, optimizer, trained, record, *facts)


def _facts(record: dict[str, Any]) -> tuple[tuple[str, ...], Contract, int]:
    """(class names, contract, image size). Raises TypeError, ValueError or AttributeError."""
    classes, model = tuple(map(str, record["classes"])), dict(record["model"])
    if model.get("num_classes") != len(classes):
        raise ValueError(f"{len(classes)} class names for {model.get('num_classes')} logits")
    size = int(record["image_size"])
    if size < SMALLEST_IMAGE:
        raise ValueError(f"images of {size} pixels, which is too small")
    return classes, Contract.from_record(record["contract"]), size


def _check_run(record: dict[str, Any]) -> None:
    """Raises TypeError, ValueError, AttributeError or KeyError if it cannot be a run's record."""
    phases = Options.from_record(record["arguments"]).by_phase()
    if record.get("phase", 0) not in range(len(phases)):
        raise ValueError(f"phase is {record['phase']!r}, of {len(phases)}")
    fit = record.get("fit", BETWEEN_EPOCHS | {"epochs": 0})
    if not isinstance(fit, dict):
        raise TypeError(f"fit is {fit!r}")
    for name in ("epochs", "batch"):
        if not isinstance(fit[name], int) or fit[name] < 0:
            raise ValueError(f"{name} of fit is {fit[name]!r}")
    if not isinstance(fit["stopped"], str):
        raise TypeError(f"stopped of fit is {fit['stopped']!r}")
    for part in ("optimizer", "random", "images"):
        if not isinstance(record[part], dict):
            raise TypeError(f"{part} is {record[part]!r}")
    history, optimizer = list(record["history"]), record["optimizer"]
    if record["epoch"] != len(history):
        raise ValueError(f"epoch is {record['epoch']!r}, its history has {len(history)}")
    numbers = [entry[figure] for entry in history for figure in FIGURES]
    numbers += [entry.get("waiting", 0.0) for entry in history]
    numbers += [group["lr"] for group in optimizer["groups"]] + [*optimizer["numbers"].values()]
    wrong = [number for number in numbers if not isinstance(number, int | float)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} stands where a number should be")


def _bare_weights(path: str | os.PathLike[str]) -> UserError:
    """What to say of a file without a record: how to make a checkpoint of it, if it is a ResNet."""
    depth = read(path).depth
    model = f" --model resnet{depth}" if depth else ""
    return UserError(
        f"{path}: bare weights, not a checkpoint; `python -m resnet_np.finetune --weights "
        f"{shlex.quote(os.fspath(path))}{model}` makes a checkpoint with class names from them"
    )


def restore_model(checkpoint: Checkpoint, to_go_on: bool = False) -> ResNet:
    """The network of a checkpoint, with the weights to predict with, or those to go on training.

    Raises UserError if they do not fit.
    """
    try:
        model = ResNet(**checkpoint.record["model"])
        model.load_state_dict((to_go_on and checkpoint.trained) or checkpoint.model)
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    model.contract, model.classes = checkpoint.contract, checkpoint.classes
    return model


def restore_random(checkpoint: Checkpoint, model: ResNet, order: np.random.Generator) -> None:
    """Bring the random generators to where they were when the file was written.

    Raises UserError if the network is another one.
    """
    states = checkpoint.record["random"]
    with _going_on(checkpoint):
        order.bit_generator.state = states["order"]
        for name, layer in _dropouts(model).items():
            layer.rng.bit_generator.state = states[name]


def restore_fit(checkpoint: Checkpoint, fit: Fit) -> None:
    """Bring a training to where it was when the file was written: all but the network's weights.

    Raises UserError if the optimizer or the network is another one.
    """
    saved, record = checkpoint.record["optimizer"], checkpoint.record
    with _going_on(checkpoint):
        if saved["name"] != type(fit.optimizer).__name__:
            raise UserError(f"was trained with {saved['name']}, not {type(fit.optimizer).__name__}")
        state = saved["numbers"] | checkpoint.optimizer
        fit.optimizer.load_state_dict({"groups": saved["groups"], "state": state})
        stands = record.get("fit", BETWEEN_EPOCHS | {"epochs": record["epoch"]})
        # A scaler may have left out every step so far.
        stepped = bool(state) or ("scaler" not in record and stands["epochs"] + stands["batch"] > 0)
        if stepped and (missing := fit.optimizer.incomplete()):
            raise UserError(f"the optimizer's state is missing for {missing} parameters")
        fit.load_state_dict(stands | {"order": record["random"]["order"]})
        if fit.scaler is not None and "scaler" in record:
            fit.scaler.load_state_dict(record["scaler"])
        if fit.average is not None:
            fit.average.load_state_dict({**checkpoint.model, **record["average"]})


def restore_callback(checkpoint: Checkpoint, callback: Callback) -> None:
    """Bring one callback to where it was, if the file knows it. Raises UserError."""
    with _going_on(checkpoint):
        states = checkpoint.record.get("fit", BETWEEN_EPOCHS)["callbacks"]
        load_state(callback, states.get(type(callback).__name__))


@contextmanager
def _going_on(checkpoint: Checkpoint) -> Iterator[None]:
    """Raises UserError for whatever a record may have wrong."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{checkpoint.path}: cannot go on from it: {error}") from error


def _dropouts(model: ResNet) -> dict[str, Dropout]:
    return {name: m for name, m in model.named_modules() if isinstance(m, Dropout)}


def _state(rng: np.random.Generator) -> dict[str, Any]:
    return dict(rng.bit_generator.state)
