"""A training run in one file: enough to predict with, and enough to go on from.

An `.npz` with the arrays `model/<name>` and `optimizer/<name>`, and a JSON record:

    format      1
    model       the arguments that rebuild the network: ResNet(**record["model"])
    classes     class names, in the order of the logits
    contract    the input that the network expects (`Contract.to_record`)
    image_size  side of the square images it was trained on
    optimizer   {"name", "groups", "numbers"}: what of the optimizer's state is no array
    epoch       how many epochs are done
    random      states of the generators: "order" of the images, and each dropout layer's
    arguments   the options of the run
    images      how many images each split has
    history     one record of figures per epoch
    fingerprints  of each split's images (`Images.fingerprint`)
    weights     the report of where the tensors of --weights went, or null
    scaler      the state of the loss scaler of a run in float16; else not there

The first four after `format` are enough to predict. The others are needed to go on, except for the
last three, which the first checkpoints did not have.
"""

import os
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.kernels import to_host
from resnet_np.models.resnet import SMALLEST_IMAGE, ResNet
from resnet_np.nn import Dropout
from resnet_np.optim import Optimizer
from resnet_np.training.options import Options
from resnet_np.weights import Contract, read, read_npz, save_npz

TO_PREDICT = ("model", "classes", "contract", "image_size")
TO_GO_ON = ("optimizer", "epoch", "random", "arguments", "images", "history")
FIGURES = (
    "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a checkpoint file: the arrays by part, the record, and what both the
    prediction and the training need of it.
    """

    path: str
    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    record: dict[str, Any]
    classes: tuple[str, ...]
    contract: Contract
    image_size: int


def save_checkpoint(
    path: str | os.PathLike[str],
    model: ResNet,
    optimizer: Optimizer,
    order: np.random.Generator,
    record: dict[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all. `record` brings what the four others cannot say:
    all but model, optimizer and random. Raises UserError.
    """
    saved = optimizer.state_dict()
    arrays = {f"model/{name}": to_host(a) for name, a in model.state_dict().items()}
    numbers = {}
    for name, value in saved["state"].items():
        if hasattr(value, "dtype"):
            arrays[f"optimizer/{name}"] = to_host(value)
        else:
            numbers[name] = value
    own = {
        "model": model.config,
        "optimizer": {
            "name": type(optimizer).__name__,
            "groups": saved["groups"],
            "numbers": numbers,
        },
        "random": {"order": _state(order)}
        | {name: _state(layer.rng) for name, layer in _dropouts(model).items()},
    }
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
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part in parts and rest:
            parts[part][rest] = array
    try:
        facts = _facts(record)
        if to_go_on:
            _check_run(record)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(f"{path}: its record is damaged: {error}") from error
    return Checkpoint(os.fspath(path), parts["model"], parts["optimizer"], record, *facts)


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
    Options.from_record(record["arguments"])
    for part in ("optimizer", "random", "images"):
        if not isinstance(record[part], dict):
            raise TypeError(f"{part} is {record[part]!r}")
    history, optimizer = list(record["history"]), record["optimizer"]
    if record["epoch"] != len(history):
        raise ValueError(f"epoch is {record['epoch']!r}, its history has {len(history)}")
    numbers = [entry[figure] for entry in history for figure in FIGURES]
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


def restore_model(checkpoint: Checkpoint) -> ResNet:
    """The network of a checkpoint, with its weights. Raises UserError if they do not fit."""
    try:
        model = ResNet(**checkpoint.record["model"])
        model.load_state_dict(checkpoint.model)
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    model.contract, model.classes = checkpoint.contract, checkpoint.classes
    return model


def restore_run(
    checkpoint: Checkpoint, model: ResNet, optimizer: Optimizer, order: np.random.Generator
) -> None:
    """Bring optimizer and random generators to where they were when the file was written.

    Raises UserError if the optimizer or the network is another one.
    """
    saved, states = checkpoint.record["optimizer"], checkpoint.record["random"]
    try:
        if saved["name"] != type(optimizer).__name__:
            raise UserError(f"was trained with {saved['name']}, not {type(optimizer).__name__}")
        state = saved["numbers"] | checkpoint.optimizer
        optimizer.load_state_dict({"groups": saved["groups"], "state": state})
        order.bit_generator.state = states["order"]
        for name, layer in _dropouts(model).items():
            layer.rng.bit_generator.state = states[name]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{checkpoint.path}: cannot go on from it: {error}") from error


def _dropouts(model: ResNet) -> dict[str, Dropout]:
    return {name: m for name, m in model.named_modules() if isinstance(m, Dropout)}


def _state(rng: np.random.Generator) -> dict[str, Any]:
    return dict(rng.bit_generator.state)
