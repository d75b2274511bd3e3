"""What a training run is made of: images, a network, and the record of how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.data.cifar import is_cifar10
from resnet_np.data.doctor import Diagnosis
from resnet_np.data.doctor import examine as diagnose
from resnet_np.data.loader import Images
from resnet_np.errors import UserError
from resnet_np.models import ResNet
from resnet_np.training import report
from resnet_np.training.callbacks import KeepBest
from resnet_np.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_callback,
    restore_model,
    restore_random,
    save_checkpoint,
)
from resnet_np.training.fit import Fit
from resnet_np.training.folder import BEST, CHECKPOINT
from resnet_np.training.lint import examine
from resnet_np.training.options import Options
from resnet_np.training.recalibrate import refuse_folded
from resnet_np.training.setup import build_model, find_source, load_splits
from resnet_np.weights import Contract
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.inspecting import print_line

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Run:
    """All that a training run consists of, beside the training itself.

    number: of the phase under way, the first is 0. fit: that phase's training.
    best: keeps the best weights, over all phases; None with --keep last.
    warnings: of mistakes in what it was told (`lint.py`).
    order: draws the order of the images. history: a record of figures for each epoch, of all
    phases. fingerprints: of the images of each split. weights: where the tensors of a weight file
    went.
    """

    options: Options
    folder: Path
    console: "Console"
    model: ResNet
    contract: Contract
    image_size: int
    splits: dict[str, Images]
    fingerprints: dict[str, str]
    weights: dict[str, Any] | None
    order: np.random.Generator
    history: list[dict[str, Any]]
    number: int = 0
    fit: Fit | None = None
    best: KeepBest | None = None
    diagnosis: Diagnosis | None = None
    warnings: Sequence[str] = ()
    saved: str = ""  # what the last checkpoint holds

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits["train"].classes

    def save(self, name: str = CHECKPOINT) -> None:
        """Write a checkpoint. Raises UserError if it cannot be written."""
        assert self.fit is not None
        record = {
            "classes": list(self.classes),
            "contract": self.contract.to_record(),
            "image_size": self.image_size,
            "epoch": len(self.history),
            "arguments": self.options.to_record(),
            "images": {name: len(images.labels) for name, images in self.splits.items()},
            "history": self.history,
            "fingerprints": self.fingerprints,
            "weights": self.weights,
            "phase": self.number,
        }
        save_checkpoint(self.folder / name, self.fit, record)
        if name == CHECKPOINT:
            done = len(self.history)
            where = f", in the middle of epoch {done + 1}" if self.fit.batch else ""
            self.saved = f"after epoch {done}{where}"


def prepare(options: Options, resume: Checkpoint | None, folder: Path, console: "Console") -> Run:
    """Images and network."""
    diagnosis = None
    if resume is None:
        source = find_source(options)
        contract, size = source.contract, source.image_size
        if options.data is not None and options.doctor and not is_cifar10(options.data):
            diagnosis = _look_at(options.data, size, console)
        splits = load_splits(options, contract, size)
        fingerprints = _fingerprints(splits)
        model, loaded = build_model(source, len(splits["train"].classes), options)
        model.contract, model.classes = contract, splits["train"].classes
        weights = None if loaded is None else asdict(loaded)
        for line in report.weight_lines(loaded):
            print_line(console, line)
        for phase in options.by_phase() if loaded else []:
            model.freeze_before(phase.unfreeze)
            refuse_folded(model, phase)
    else:
        contract, size = resume.contract, resume.image_size
        splits = load_splits(options, contract, size)
        fingerprints = _fingerprints(splits)
        _check_same_images(resume, splits, fingerprints)
        model, weights = restore_model(resume, to_go_on=True), resume.record.get("weights")
    print_line(console, report.input_line(contract.with_size(size)))
    warnings = examine(options, splits)
    for warning in warnings:
        print_line(console, f"warning: {warning}")
    run = Run(
        options, folder, console, model, contract, size, splits, fingerprints, weights,
        np.random.default_rng(options.seed), [], diagnosis=diagnosis, warnings=warnings,
    )  # fmt: skip
    if options.keep == "best":
        run.best = KeepBest(lambda: run.save(BEST), options.watch)
    if resume is not None:
        run.history = list(resume.record["history"])
        restore_random(resume, model, run.order)
        if run.best is not None and _bring_best(resume, folder):
            restore_callback(resume, run.best)
        else:  # what is not there is not the best so far
            resume.record.get("fit", {}).get("callbacks", {}).pop(KeepBest.__name__, None)
    return run


def _bring_best(resume: Checkpoint, folder: Path) -> bool:
    """Whether the best weights up to the checkpoint lie beside it; then they are in `folder`, too.

    Those of later epochs are not this run's.
    """
    beside = Path(resume.path).with_name(BEST)
    if not beside.exists():
        return False
    if load_checkpoint(beside, to_go_on=True).record["epoch"] > resume.record["epoch"]:
        return False
    if not (folder / BEST).exists() or not beside.samefile(folder / BEST):
        with atomic_file(folder / BEST) as file:
            file.write(beside.read_bytes())
    return True


def _look_at(source: str, size: int, console: "Console") -> Diagnosis:
    """What the data doctor says of the images, also shown as a table."""
    with report.bars(console, passing=True) as bars:
        task = bars.add_task("looking at all images", total=0, figures="")
        diagnosis = diagnose(
            source, size, begin=lambda count: bars.update(task, total=count),
            advance=lambda done: bars.advance(task, done),
        )  # fmt: skip
    report.print_diagnosis(console, diagnosis)
    return diagnosis


def _fingerprints(splits: dict[str, Images]) -> dict[str, str]:
    return {name: images.fingerprint() for name, images in splits.items()}


def _check_same_images(
    checkpoint: Checkpoint, splits: dict[str, Images], fingerprints: dict[str, str]
) -> None:
    """Refuse to go on with other images: their order would mean something else."""
    classes, before = splits["train"].classes, checkpoint.record["images"]
    counts = {name: len(images.labels) for name, images in splits.items()}
    advice = "say with --data where the same ones are, or begin a new run"
    if before != counts:
        raise UserError(
            f"{checkpoint.path}: was trained on {_counted(before)}, but here are "
            f"{_counted(counts)}; {advice}"
        )
    if checkpoint.classes != classes:
        pairs = zip_longest(checkpoint.classes, classes)
        number, (was, now) = next((i, p) for i, p in enumerate(pairs, 1) if p[0] != p[1])
        raise UserError(
            f"{checkpoint.path}: was trained on other classes: class {number} was {was!r} and is "
            f"{now!r} now; {advice}"
        )
    known = checkpoint.record.get("fingerprints")  # the first checkpoints have none
    if known is not None and known != fingerprints:
        raise UserError(
            f"{checkpoint.path}: was trained on other images, as many, but with other names, sizes "
            f"or classes; {advice}"
        )


def _counted(images: Mapping[str, int]) -> str:
    """So many images of each split, in words."""
    return ", ".join(f"{count} {name}" for name, count in images.items()) + " images"
