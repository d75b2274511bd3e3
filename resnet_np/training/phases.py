"""One phase of a run: what it trains, on what, and what happens beside that."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.loader import Images, split_batches
from resnet_np.data.transforms import parse
from resnet_np.optim import LossScaler, MovingAverage
from resnet_np.training import report
from resnet_np.training.callbacks import (
    Callback,
    EarlyStopping,
    FrozenAudit,
    SaveEpochs,
    SaveNowAndThen,
)
from resnet_np.training.checkpoint import Checkpoint, restore_fit
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
from resnet_np.training.options import Options
from resnet_np.training.rates import make_schedule
from resnet_np.training.recalibrate import check_statistics, trainable_norms
from resnet_np.training.run import Run
from resnet_np.training.setup import find_class_weights

if TYPE_CHECKING:
    from rich.console import Console


def begin_phase(
    run: Run, number: int, phase: Options, resume: Checkpoint | None, last: bool
) -> dict[str, Inputs]:
    """Make the phase's training. Gives the inputs of each split.

    last: whether the run is judged after it; before, nobody wants the features of the test images
    """
    model, console = run.model, run.console
    model.freeze_before(phase.unfreeze)
    model.to(phase.device)
    start = model.frozen_prefix() or "fc"
    trunk = Trunk(model, start, run.contract, phase.device, phase.precision)
    labels = run.splits["train"].labels
    weights = find_class_weights(phase.class_weights, labels, run.classes)  # said before the work
    splits = {name: some for name, some in run.splits.items() if last or name != "test"}
    inputs, train = _make_inputs(phase, trunk, splits, console)
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
            guarded(run, phase, partial(check_statistics, model, start, train, phase))
    if phase.ema is not None:
        run.fit.average = MovingAverage(model, phase.ema)
    if resume is not None and not fresh:
        restore_fit(resume, run.fit)
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


def guarded(run: Run, phase: Options, work: Callable[[], Any]) -> Any:
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
