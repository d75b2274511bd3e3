"""The main job, from options to a fine-tuned network and its figures."""

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.data.loader import Images, epoch_order, split_batches
from resnet_np.device import require
from resnet_np.errors import UserError
from resnet_np.kernels import using_precision
from resnet_np.models import ResNet
from resnet_np.optim import LossScaler, Optimizer
from resnet_np.training import report
from resnet_np.training.checkpoint import (
    Checkpoint,
    restore_model,
    restore_run,
    save_checkpoint,
)
from resnet_np.training.features import ImageInputs, Inputs, Trunk, cache_features
from resnet_np.training.fitting import does_not_fit, step_fits
from resnet_np.training.folder import CHECKPOINT, result_folder
from resnet_np.training.loop import Progress, predict_logits, train_epoch
from resnet_np.training.metrics import mean_cross_entropy
from resnet_np.training.options import Options
from resnet_np.training.recalibrate import check_statistics, trainable_norms
from resnet_np.training.results import write_results
from resnet_np.training.setup import build_model, find_source, load_splits
from resnet_np.weights import Contract
from resnet_np.weights.inspecting import print_line

if TYPE_CHECKING:
    from rich.console import Console

SAVE_EVERY = 60.0  # seconds: the most that a break costs, without a write in every short epoch

# What may be said together with --resume; all else is taken from the checkpoint.
CHANGEABLE = ("data", "epochs", "device", "precision", "out", "cache")


@dataclass
class Run:
    """All that a training run consists of. Epoch n is done when `history` has n entries.

    start: the first stage that is trained; `inputs` are what enters it, by split.
    order: the generator of the image order, one permutation per epoch.
    fingerprints: of the images of each split. weights: where the tensors of a weight file went.
    """

    options: Options
    model: ResNet
    contract: Contract
    image_size: int
    splits: dict[str, Images]
    fingerprints: dict[str, str]
    weights: dict[str, Any] | None
    start: str
    inputs: dict[str, Inputs]
    optimizer: Optimizer
    order: np.random.Generator
    history: list[dict[str, Any]]
    scaler: LossScaler | None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits["train"].classes

    def save(self, path: Path) -> None:
        """Write a checkpoint. Raises UserError if it cannot be written."""
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
        }
        if self.scaler is not None:
            record["scaler"] = self.scaler.state_dict()
        save_checkpoint(path, self.model, self.optimizer, self.order, record)


def finetune(options: Options, resume: Checkpoint | None, console: "Console") -> None:
    """Fine-tune as the options say, show how it goes on `console`, write the results.

    resume: a checkpoint whose training is to go on; `options` are its own, with changes. Raises
    UserError for everything that the user can put right.
    """
    require(options.device, options.precision)
    with using_precision("tf32" if options.precision == "tf32" else "fp32"):
        _finetune(options, resume, console)


def _finetune(options: Options, resume: Checkpoint | None, console: "Console") -> None:
    name = "digits" if options.data is None else _run_name(Path(options.data).resolve())
    with result_folder(options.out, name, resume.path if resume else None) as folder:
        run = _prepare(options, resume, console)
        try:
            if resume is None and run.weights is not None and trainable_norms(run.model):
                with console.status("comparing batch-norm statistics with the images"):
                    check_statistics(run.model, run.start, run.inputs["train"], options)
            _train(run, folder / CHECKPOINT, console)
            run.save(folder / CHECKPOINT)
            logits = {
                split: predict_logits(run.model, run.start, inputs, options.batch_size)
                for split, inputs in run.inputs.items()
            }
        except MemoryError as error:
            if options.device == "cpu":
                raise
            error.__traceback__ = None  # it holds on to the arrays of what failed
            raise _does_not_fit(run, error) from None
        write_results(folder, logits, run.splits, run.history, run.weights, options, console)


def _run_name(source: Path) -> str:
    """The folder's name, or the table's without .csv."""
    return source.stem if source.is_file() else source.name


def _does_not_fit(run: Run, error: MemoryError) -> UserError:
    """What to say when the GPU's memory was too small."""
    run.optimizer.zero_grad()
    train = run.inputs["train"]
    fits = partial(step_fits, run.model, run.start, run.optimizer, train)
    return does_not_fit(error, fits, min(run.options.batch_size, len(train.labels)))


def resumed_options(checkpoint: Checkpoint, given: dict[str, Any]) -> Options:
    """The options that a checkpoint was made with, and the given ones on top.

    Raises UserError if one is given that a run cannot change on its way, or nothing is left to do.
    """
    fixed = [name for name in given if name not in CHANGEABLE]
    if fixed:
        names = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise UserError(f"{names}: cannot be changed with --resume; leave it out")
    done = checkpoint.record["epoch"]
    options = Options.from_record(checkpoint.record["arguments"])
    options = replace(options, **({"out": None} | given))
    if options.epochs <= done:
        raise UserError(f"{checkpoint.path}: has {done} epochs already; say --epochs {done + 1}")
    return options


def _prepare(options: Options, resume: Checkpoint | None, console: "Console") -> Run:
    """Images, network, frozen features, optimizer: everything up to the first step."""
    if resume is None:
        source = find_source(options)
        contract, size = source.contract, source.image_size
        splits = load_splits(options, contract, size)
        model, loaded = build_model(source, len(splits["train"].classes), options)
        model.contract, model.classes = contract, splits["train"].classes
        weights = None if loaded is None else asdict(loaded)
        for line in report.weight_lines(loaded):
            print_line(console, line)
    else:
        contract, size = resume.contract, resume.image_size
        splits = load_splits(options, contract, size)
        _check_same_images(resume, splits)
        model, weights = restore_model(resume), resume.record.get("weights")
    print_line(console, report.input_line(contract.with_size(size)))
    model.freeze_before(options.unfreeze)
    model.to(options.device)
    start = model.frozen_prefix() or "fc"
    trunk = Trunk(model, start, contract, options.device, options.precision)
    inputs = _make_inputs(options, trunk, splits, console)
    order = np.random.default_rng(options.seed)
    run = Run(
        options, model, contract, size, splits, _fingerprints(splits), weights, start, inputs,
        options.make_optimizer(model), order, [],
        LossScaler() if options.precision == "fp16" else None,
    )  # fmt: skip
    if resume is not None:
        restore_run(resume, model, run.optimizer, order)
        run.history = list(resume.record["history"])
        if run.scaler is not None and "scaler" in resume.record:
            run.scaler.load_state_dict(resume.record["scaler"])
    return run


def _fingerprints(splits: dict[str, Images]) -> dict[str, str]:
    return {name: images.fingerprint() for name, images in splits.items()}


def _check_same_images(checkpoint: Checkpoint, splits: dict[str, Images]) -> None:
    """Refuse to go on with other images: their order would mean something else."""
    counts = {name: len(images.labels) for name, images in splits.items()}
    if checkpoint.record["images"] != counts or checkpoint.classes != splits["train"].classes:
        raise UserError(
            f"{checkpoint.path}: was trained on {checkpoint.record['images']} images of "
            f"{len(checkpoint.classes)} classes, but the folder has {counts} of "
            f"{len(splits['train'].classes)}"
        )
    known = checkpoint.record.get("fingerprints")  # the first checkpoints have none
    if known is not None and known != _fingerprints(splits):
        raise UserError(
            f"{checkpoint.path}: was trained on other images, as many, but with other names, sizes "
            "or classes; say with --data where the same ones are, or begin a new run"
        )


def _make_inputs(
    options: Options, trunk: Trunk, splits: dict[str, Images], console: "Console"
) -> dict[str, Inputs]:
    """What the trained stages see: features computed now, or each time anew."""
    if not options.cache or trunk.stop == "stem":
        return {name: ImageInputs(images, trunk) for name, images in splits.items()}
    with report.bars(console) as bars:
        total = sum(len(images.labels) for images in splits.values())
        task = bars.add_task("frozen features", total=total, figures="images")
        return dict(cache_features(trunk, splits, lambda done: bars.advance(task, done)))


def _train(run: Run, checkpoint: Path, console: "Console") -> None:
    """Train up to the last epoch, saving now and then. After Ctrl-C, say where it can go on."""
    images = len(run.inputs["train"].labels)
    epochs = range(len(run.history) + 1, run.options.epochs + 1)
    saved_at, saved_epoch = time.monotonic(), 0
    try:
        with report.bars(console) as bars:
            task = bars.add_task("training", total=len(epochs) * images, figures="")
            for i, epoch in enumerate(epochs):

                def show(progress: Progress, before: int = i * images) -> None:
                    figures = report.batch_line(progress)
                    bars.update(task, completed=before + progress.images, figures=figures)

                run.history.append(_one_epoch(run, epoch, show))
                bars.console.print(report.epoch_line(run.history[-1]), highlight=False)
                if time.monotonic() - saved_at > SAVE_EVERY:
                    run.save(checkpoint)
                    saved_at, saved_epoch = time.monotonic(), epoch
    except KeyboardInterrupt:
        if saved_epoch:
            raise KeyboardInterrupt(
                f"interrupted; --resume {checkpoint} goes on after epoch {saved_epoch}"
            ) from None
        raise


def _one_epoch(run: Run, epoch: int, show: Any) -> dict[str, Any]:
    """Train for one epoch, look at the validation images, and return the figures."""
    began = time.monotonic()
    train, validation = run.inputs["train"], run.inputs["validation"]
    batch_size = run.options.batch_size
    batches = split_batches(epoch_order(run.order, len(train.labels)), batch_size)
    seen = train_epoch(run.model, run.start, run.optimizer, train, batches, show, run.scaler)
    logits = predict_logits(run.model, run.start, validation, batch_size)
    return {
        "epoch": epoch,
        "train_loss": seen.loss,
        "train_accuracy": seen.accuracy,
        "validation_loss": mean_cross_entropy(logits, validation.labels),
        "validation_accuracy": float((logits.argmax(axis=1) == validation.labels).mean()),
        "seconds": time.monotonic() - began,
    }
