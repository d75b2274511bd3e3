"""The main job, from options to a fine-tuned network and its figures."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.device import require
from resnet_np.errors import UserError, counted
from resnet_np.kernels import using_precision
from resnet_np.training import report
from resnet_np.training.checkpoint import Checkpoint, load_checkpoint
from resnet_np.training.comparing import read_run
from resnet_np.training.features import ImageInputs, Inputs, Trunk
from resnet_np.training.folder import BEST, CHECKPOINT, HISTORY, result_folder
from resnet_np.training.loop import predict_logits
from resnet_np.training.options import Options
from resnet_np.training.page import Outcome
from resnet_np.training.phases import begin_phase, guarded
from resnet_np.training.rate_finder import Found, find_rate
from resnet_np.training.results import write_results
from resnet_np.training.run import Run, prepare
from resnet_np.training.setup import check_options
from resnet_np.weights.inspecting import print_line

if TYPE_CHECKING:
    from rich.console import Console

# What may be said together with --resume; all else is taken from the checkpoint.
CHANGEABLE = (
    "data", "names", "epochs", "recalibrate", "device", "precision", "out", "cache", "save_every",
    "save_epochs",
)  # fmt: skip


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
        run = prepare(options, resume, folder, console)
        try:
            logits = _train_and_judge(run, options.by_phase(), resume)
        except KeyboardInterrupt:
            if run.saved:
                raise KeyboardInterrupt(
                    f"interrupted; --resume {folder / CHECKPOINT} goes on {run.saved}"
                ) from None
            raise
        outcome = Outcome(
            options, BEST if run.best else CHECKPOINT, logits, run.splits, run.history, run.weights,
            run.diagnosis, run.warnings, time.monotonic() - began,
        )  # fmt: skip
        write_results(folder, outcome, console)


def _train_and_judge(
    run: Run, phases: list[Options], resume: Checkpoint | None
) -> dict[str, np.ndarray]:
    """What is left of the phases, one after the other; then the logits of each split."""
    for number, phase in enumerate(phases):
        last = number == len(phases) - 1  # there is always something to judge
        if resume is not None and not last and _is_done(resume, number, phase):
            continue
        if len(phases) > 1:
            print_line(run.console, f"phase {number + 1}: from {phase.unfreeze} on")
        inputs = begin_phase(run, number, phase, resume, last)
        guarded(run, phase, partial(_train, run, phase))
        run.save()
    return guarded(run, phases[-1], partial(_judge, run, phases[-1], inputs))


def try_rates(options: Options, steps: int, console: "Console") -> Found:
    """What becomes of the loss when the learning rates rise, in the first phase of such a run.

    Nothing is written. Raises UserError for everything that the user can put right.
    """
    check_options(options)
    require(options.device, options.precision)
    with using_precision("tf32" if options.precision == "tf32" else "fp32"):
        phase = replace(options.by_phase()[0], accumulate=1)
        run = prepare(replace(options, doctor=False), None, Path(), console)
        if steps * phase.batch_size < len(run.splits["train"].labels):
            phase = replace(phase, cache=False)  # not all images are seen even once
        begin_phase(run, 0, phase, None, last=False)
        assert run.fit is not None
        with console.status("training with rising rates"):
            return guarded(run, phase, partial(find_rate, run.fit, steps))


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
            after = counted(done, "epoch")
            raise UserError(f"{checkpoint.path}: has stopped after {after}: {stopped}")
        advice = "" if options.phases else f"; say --epochs {done + 1}"
        raise UserError(f"{checkpoint.path}: has {counted(done, 'epoch')} already{advice}")
    return options


def _train(run: Run, phase: Options) -> None:
    """Train up to the phase's end."""
    fit = run.fit
    assert fit is not None
    with report.bars(run.console) as bars:
        fit.callbacks.insert(0, report.ShowProgress(bars, phase.epochs))
        fit.run(phase.epochs)
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
