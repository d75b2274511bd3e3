"""The main job, from options to a fine-tuned network and its figures."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.doctor import Diagnosis
from resnet_np.data.doctor import examine as diagnose
from resnet_np.data.loader import Images, split_batches
from resnet_np.data.transforms import parse
from resnet_np.device import require
from resnet_np.errors import UserError
from resnet_np.kernels import using_precision
from resnet_np.models import ResNet
from resnet_np.optim import LossScaler, MovingAverage
from resnet_np.training import report
from resnet_np.training.callbacks import (
    Callback,
    EarlyStopping,
    FrozenAudit,
    KeepBest,
    SaveEpochs,
    SaveNowAndThen,
)
from resnet_np.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_callback,
    restore_fit,
    restore_model,
    restore_random,
    save_checkpoint,
)
from resnet_np.training.comparing import read_run
from resnet_np.training.features import (
    CachedInputs,
    CachedViews,
    ImageInputs,
    Inputs,
    Trunk,
    cache_features,
)
from resnet_np.training.fit import Fit, Rule
from resnet_np.training.fitting import does_not_fit, step_fits
from resnet_np.training.folder import BEST, CHECKPOINT, HISTORY, result_folder
from resnet_np.training.lint import examine
from resnet_np.training.loop import predict_logits
from resnet_np.training.options import Options
from resnet_np.training.page import Outcome
from resnet_np.training.rate_finder import Found, find_rate
from resnet_np.training.rates import make_schedule
from resnet_np.training.recalibrate import check_statistics, refuse_folded, trainable_norms
from resnet_np.training.results import write_results
from resnet_np.training.setup import (
    build_model,
    check_options,
    find_class_weights,
    find_source,
    load_splits,
)
from resnet_np.weights import Contract
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.inspecting import print_line

if TYPE_CHECKING:
    from rich.console import Console

# What may be said together with --resume; all else is taken from the checkpoint.
CHANGEABLE = (
    "data", "epochs", "recalibrate", "device", "precision", "out", "cache", "save_every",
    "save_epochs",
)  # fmt: skip


@dataclass
class Run:
    """All that a training run consists of, beside the training itself.

    number: of the phase under way, the first is 0. fit: that phase's training.
    best: keeps the best weights, over all phases; None with --keep last.
    mistakes: in what it was told (`lint.py`).
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
    mistakes: Sequence[str] = ()
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


def finetune(options: Options, resume: Checkpoint | None, console: "Console") -> None:
    """Fine-tune as the options say, show how it goes on `console`, write the results.

    resume: a checkpoint whose training is to go on; `options` are its own, with changes. Raises
    UserError for everything that the user can put right.
    """
    check_options(options)
    require(options.device, options.precision)
    with using_precision("tf32" if options.precision == "tf32" else "fp32"):
        _finetune(options, resume, console)


def _finetune(options: Options, resume: Checkpoint | None, console: "Console") -> None:
    began = time.monotonic()
    name = "digits" if options.data is None else _run_name(Path(options.data).resolve())
    with result_folder(options.out, name, resume.path if resume else None) as folder:
        run = _prepare(options, resume, folder, console)
        phases = options.by_phase()
        for number, phase in enumerate(phases):
            last = number == len(phases) - 1  # there is always something to judge
            if resume is not None and not last and _is_done(resume, number, phase):
                continue
            if len(phases) > 1:
                print_line(console, f"phase {number + 1}: from {phase.unfreeze} on")
            inputs = _begin_phase(run, number, phase, resume)
            _guarded(run, phase, partial(_train, run, phase))
            run.save()
        logits = _guarded(run, phases[-1], partial(_judge, run, phases[-1], inputs))
        outcome = Outcome(
            options, BEST if run.best else CHECKPOINT, logits, run.splits, run.history, run.weights,
            run.diagnosis, run.mistakes, time.monotonic() - began,
        )  # fmt: skip
        write_results(folder, outcome, console)


def try_rates(options: Options, steps: int, console: "Console") -> Found:
    """What becomes of the loss when the learning rates rise, in the first phase of such a run.

    Nothing is written. Raises UserError for everything that the user can put right.
    """
    check_options(options)
    require(options.device, options.precision)
    with using_precision("tf32" if options.precision == "tf32" else "fp32"):
        phase = replace(options.by_phase()[0], accumulate=1)
        run = _prepare(replace(options, doctor=False), None, Path(), console)
        _begin_phase(run, 0, phase, None)
        assert run.fit is not None
        with console.status("training with rising rates"):
            return _guarded(run, phase, partial(find_rate, run.fit, steps))


def _run_name(source: Path) -> str:
    """The folder's name, or the table's without .csv."""
    return source.stem if source.is_file() else source.name


def _is_done(resume: Checkpoint, number: int, phase: Options) -> bool:
    """Whether the checkpoint was written when this phase had ended."""
    record = resume.record
    if number != record.get("phase", 0):
        return number < record.get("phase", 0)
    fit = record.get("fit", {"epochs": record["epoch"], "stopped": ""})
    return fit["epochs"] >= phase.epochs or bool(fit["stopped"])


def _guarded(run: Run, phase: Options, work: Callable[[], Any]) -> Any:
    """Do it. Raises UserError where a GPU has not enough memory for it."""
    try:
        return work()
    except MemoryError as error:
        if phase.device == "cpu":
            raise
        error.__traceback__ = None  # it holds on to the arrays of what failed
        fit = run.fit
        assert fit is not None and fit.start is not None
        fit.optimizer.zero_grad()
        fits = partial(step_fits, run.model, fit.start, fit.optimizer, fit.train)
        most = min(phase.batch_size, len(fit.train.labels))
        raise does_not_fit(error, fits, most) from None


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
    if options.phases and "epochs" in given:
        raise UserError("--epochs: the phases of this run say it; leave it out")
    options = replace(options, **({"out": None} | given))
    phases = options.by_phase()
    folder = Path(checkpoint.path).parent  # its results may be missing, or those of fewer epochs
    finished = (folder / HISTORY).exists() and read_run(folder)["epochs"] >= done
    if finished and _is_done(checkpoint, len(phases) - 1, phases[-1]):
        stopped = checkpoint.record.get("fit", {}).get("stopped")
        if stopped and done < options.epochs:
            raise UserError(f"{checkpoint.path}: has stopped after {done} epochs: {stopped}")
        advice = "" if options.phases else f"; say --epochs {done + 1}"
        raise UserError(f"{checkpoint.path}: has {done} epochs already{advice}")
    return options


# --- what a run is made of -----------------------------------------------------------------------


def _prepare(options: Options, resume: Checkpoint | None, folder: Path, console: "Console") -> Run:
    """Images and network."""
    diagnosis = None
    if resume is None:
        source = find_source(options)
        contract, size = source.contract, source.image_size
        if options.data is not None and options.doctor:
            diagnosis = _look_at(options.data, size, console)
        splits = load_splits(options, contract, size)
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
        _check_same_images(resume, splits)
        model, weights = restore_model(resume, to_go_on=True), resume.record.get("weights")
    print_line(console, report.input_line(contract.with_size(size)))
    mistakes = examine(options, splits)
    for mistake in mistakes:
        print_line(console, f"warning: {mistake}")
    run = Run(
        options, folder, console, model, contract, size, splits, _fingerprints(splits), weights,
        np.random.default_rng(options.seed), [], diagnosis=diagnosis, mistakes=mistakes,
    )  # fmt: skip
    if options.keep == "best":
        run.best = KeepBest(lambda: run.save(BEST), options.watch)
    if resume is not None:
        run.history = list(resume.record["history"])
        restore_random(resume, model, run.order)
        if run.best is not None and _bring_best(resume, folder):
            restore_callback(resume, run.best)
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


def _begin_phase(
    run: Run, number: int, phase: Options, resume: Checkpoint | None
) -> dict[str, Inputs]:
    """Make the phase's training. Gives what it is judged by: the inputs of each split."""
    model, console = run.model, run.console
    model.freeze_before(phase.unfreeze)
    model.to(phase.device)
    start = model.frozen_prefix() or "fc"
    trunk = Trunk(model, start, run.contract, phase.device, phase.precision)
    labels = run.splits["train"].labels
    weights = find_class_weights(phase.class_weights, labels, run.classes)  # said before the work
    inputs, train = _make_inputs(phase, trunk, run.splits, console)
    batches = len(split_batches(np.arange(len(train.labels)), phase.batch_size))
    steps = -(-batches // phase.accumulate)
    schedule = make_schedule(phase.schedule, phase.warmup, phase.epochs, steps)
    optimizer = phase.make_optimizer(model)
    rule = Rule(weights, phase.label_smoothing, phase.clip, phase.accumulate)
    run.number = number
    run.fit = Fit(
        model, optimizer, train, inputs["validation"],
        start=start, batch_size=phase.batch_size, order=run.order, schedule=schedule, rule=rule,
        scaler=LossScaler() if phase.precision == "fp16" else None,
        callbacks=_callbacks(run, phase), history=run.history,
    )  # fmt: skip
    fresh = resume is None or number > resume.record.get("phase", 0)
    if fresh and run.weights is not None and trainable_norms(model):
        with console.status("comparing batch-norm statistics with the images"):
            _guarded(run, phase, partial(check_statistics, model, start, train, phase))
    if phase.ema is not None:
        run.fit.average = MovingAverage(model, phase.ema)
    if resume is not None and not fresh:
        kept = None if run.best is None else run.best.state_dict()
        restore_fit(resume, run.fit)
        if run.best is not None and kept is not None:
            run.best.load_state_dict(kept)  # what `_prepare` has found, which may be less
    return inputs


def _callbacks(run: Run, phase: Options) -> list[Callback]:
    """What happens beside the phase's training. What writes comes last."""
    callbacks: list[Callback] = [FrozenAudit(run.model)]
    if phase.patience is not None:
        callbacks.append(EarlyStopping(phase.patience, phase.watch))
    if run.best is not None:
        callbacks.append(run.best)
    if phase.save_epochs is not None:
        save = lambda epoch: run.save(f"epoch-{epoch:04}.npz")  # noqa: E731
        callbacks.append(SaveEpochs(save, phase.save_epochs))
    return [*callbacks, SaveNowAndThen(run.save, phase.save_every)]


def _make_inputs(
    phase: Options, trunk: Trunk, splits: dict[str, Images], console: "Console"
) -> tuple[dict[str, Inputs], Inputs]:
    """What the trained stages see of each split, and what they are trained on.

    Features are computed now, or each time anew. Those of images that change at random are kept for
    so many views as the options say.
    """
    anew: dict[str, Inputs] = {name: ImageInputs(images, trunk) for name, images in splits.items()}
    keep = phase.cache and trunk.stop != "stem"
    if phase.augment is None:
        inputs = anew | _cached(trunk, splits, console) if keep else anew
        return inputs, inputs["train"]
    augmented = _augmented(phase, splits["train"])
    if not keep:
        return anew, ImageInputs(augmented, trunk)
    views = {f"view {i}": augmented.at(i) for i in range(phase.views)}
    others = {name: images for name, images in splits.items() if name != "train"}
    cached = _cached(trunk, others | views, console)
    train = (
        CachedViews([cached[name] for name in views]) if views else ImageInputs(augmented, trunk)
    )
    return anew | {name: cached[name] for name in others}, train


def _augmented(phase: Options, images: Images) -> AugmentedImages:
    """The training images as the phase's transforms change them. Raises UserError."""
    assert phase.augment is not None
    augmented = AugmentedImages(images, parse(phase.augment), phase.seed, phase.views)
    augmented.read(np.array([0]))  # what goes wrong with the first one is said before the work
    return augmented


def _cached(
    trunk: Trunk, images: Mapping[str, Images], console: "Console"
) -> dict[str, CachedInputs]:
    """The frozen features of these images, computed now."""
    with report.bars(console) as bars:
        total = sum(len(some.labels) for some in images.values())
        task = bars.add_task("frozen features", total=total, figures="images")
        return cache_features(trunk, images, lambda done: bars.advance(task, done))


# --- the work ------------------------------------------------------------------------------------


def _train(run: Run, phase: Options) -> None:
    """Train up to the phase's end. After Ctrl-C, say where it can go on."""
    fit = run.fit
    assert fit is not None
    try:
        with report.bars(run.console) as bars:
            fit.callbacks.insert(0, report.ShowProgress(bars, phase.epochs))
            fit.run(phase.epochs)
    except KeyboardInterrupt:
        if run.saved:
            raise KeyboardInterrupt(
                f"interrupted; --resume {run.folder / CHECKPOINT} goes on {run.saved}"
            ) from None
        raise
    if fit.stopped:
        print_line(run.console, f"stopped: {fit.stopped}")


def _judge(run: Run, phase: Options, inputs: dict[str, Inputs]) -> dict[str, np.ndarray]:
    """The logits of each split, by the weights that are kept. On plain images, not augmented."""
    fit = run.fit
    assert fit is not None
    if run.best is None:
        return {name: fit.predict(some) for name, some in inputs.items()}
    best = load_checkpoint(run.folder / BEST)
    run.model.load_state_dict(best.model)
    if best.record.get("phase", 0) != run.number:  # other stages may have changed since
        trunk = Trunk(run.model, str(fit.start), run.contract, phase.device, phase.precision)
        inputs = {name: ImageInputs(images, trunk) for name, images in run.splits.items()}
    return {
        name: predict_logits(run.model, fit.start, some, phase.batch_size)
        for name, some in inputs.items()
    }
