"""What a run shows on the screen: progress bars with time left, and tables."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resnet_np.data.doctor import KINDS, Diagnosis
from resnet_np.errors import one_line, some
from resnet_np.models.pretrained import LoadReport
from resnet_np.training.callbacks import Callback
from resnet_np.training.loop import Progress
from resnet_np.training.metrics import Figures
from resnet_np.weights import Contract
from resnet_np.weights.inspecting import contract_lines, print_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from resnet_np.training.fit import Fit

MOST_CLASSES = 30  # in a table
SHOWN = 3  # findings of one kind


def bars(console: "Console", passing: bool = False) -> "Bars":
    """Progress bars: what, how far, the figures so far, the time left. Use with `with`.

    passing: they vanish when they are done, and where there is no terminal they are not shown.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=passing,
        disable=passing and not console.is_terminal,
    )


def weight_lines(loaded: LoadReport | None) -> list[str]:
    """Where the tensors of a weight file went: how many, and what was not used for which reason."""
    if loaded is None:
        return ["weights: none, every stage starts at random"]
    lines = [f"weights: {loaded}"]
    for what, reasons in (("left out", loaded.left_out), ("not filled", loaded.missing)):
        groups = defaultdict(list)
        for name, reason in reasons.items():
            groups[reason].append(name)
        lines += [f"  {len(g)} {what}, {reason}: {some(g)}" for reason, g in groups.items()]
    return lines


def input_line(contract: Contract) -> str:
    """What the network is shown, whatever the image files are like."""
    return "input: " + "; ".join(contract_lines(contract))


def batch_line(progress: Progress) -> str:
    """The figures of an epoch under way."""
    return f"loss {progress.loss:.4f}  accuracy {progress.accuracy:.3f}"


def epoch_line(entry: Mapping[str, Any]) -> str:
    """One epoch of the history; at last the share of its time spent waiting for images."""
    return (
        f"epoch {entry['epoch']:>3}  loss {entry['train_loss']:.4f}  "
        f"accuracy {entry['train_accuracy']:.3f}  validation {entry['validation_loss']:.4f}  "
        f"{entry['validation_accuracy']:.3f}  {entry['seconds']:.1f} s, "
        f"waited {entry['waiting'] / max(entry['seconds'], 1e-9):.0%}"
    )


class ShowProgress(Callback):
    """The bar of a training, and a line for each epoch."""

    def __init__(self, bars: Any, epochs: int) -> None:
        self.bars, self.epochs = bars, epochs

    def on_train_begin(self, fit: "Fit") -> None:
        images = len(fit.train.labels)
        total, done = self.epochs * images, fit.epochs * images
        self.task = self.bars.add_task("training", total=total, completed=done, figures="")

    def on_batch_end(self, fit: "Fit") -> None:
        done = fit.epochs * len(fit.train.labels) + fit.seen.images
        self.bars.update(self.task, completed=done, figures=batch_line(fit.seen))

    def on_epoch_end(self, fit: "Fit") -> None:
        print_line(self.bars.console, epoch_line(fit.history[-1]))


def print_figures(
    console: "Console", figures: Mapping[str, Figures], counts: Mapping[str, int]
) -> None:
    """The table of final figures, one row per split."""
    from rich.table import Table

    table = Table("", "images", "loss", "accuracy", "macro F1")
    for column in table.columns[1:]:
        column.justify = "right"
    for split, f in figures.items():
        numbers = (f"{f.loss:.4f}", f"{f.accuracy:.4f}", f"{f.macro_f1:.4f}")
        table.add_row(split, str(counts[split]), *numbers)
    console.print(table)


def print_all_figures(console: "Console", f: Figures, classes: Sequence[str]) -> None:
    """Everything that was found of one set of images: as a whole, and the classes, worst first."""
    from rich.table import Table

    table = Table(f"{f.images} images", "")
    table.columns[1].justify = "right"
    lines = [("loss", f.loss), ("accuracy", f.accuracy)]
    lines += [(f"among the {k} likeliest", share) for k, share in f.top.items()]
    lines += [("precision, mean over classes", f.macro_precision)]
    lines += [("recall", f.macro_recall), ("F1", f.macro_f1), ("F1, by images", f.weighted_f1)]
    lines += [] if f.macro_roc_auc is None else [("ROC-AUC, mean over classes", f.macro_roc_auc)]
    lines += [("calibration error", f.calibration_error)]
    for name, value in lines:
        table.add_row(name, f"{value:.4f}")
    console.print(table)

    known = [(c, name) for c, name in zip(f.classes, classes, strict=True) if c.images]
    worst = sorted(known, key=lambda pair: pair[0].f1)[:MOST_CLASSES]
    table = Table("class", "images", "precision", "recall", "F1", "ROC-AUC")
    for column in table.columns[1:]:
        column.justify = "right"
    for c, name in worst:
        auc = "" if c.roc_auc is None else f"{c.roc_auc:.4f}"
        numbers = (f"{value:.4f}" for value in (c.precision, c.recall, c.f1))
        table.add_row(name, str(c.images), *numbers, auc)
    console.print(table)
    if len(known) > len(worst):
        console.print(f"{len(known) - len(worst)} more classes have an F1 that is no lower")


def print_diagnosis(console: "Console", diagnosis: Diagnosis) -> None:
    """How many images there are, and a table with one row for each kind of finding."""
    from rich.table import Table
    from rich.text import Text

    print_line(console, one_line(diagnosis_line(diagnosis)))
    if not diagnosis.findings:
        print_line(console, "Nothing was found.")
        return
    table = Table("times", show_lines=True)
    table.add_column("found, and what to do", ratio=2)
    table.add_column("where", overflow="fold", ratio=3)  # paths are shown whole
    for kind, (title, advice) in KINDS.items():
        lines = [
            one_line(f"{' = '.join(found.paths)} ({found.detail})".strip().removesuffix(" ()"))
            for found in diagnosis.findings
            if found.kind == kind
        ]
        if lines:
            more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            where = Text("\n".join([*lines[:SHOWN], *more]))
            table.add_row(str(len(lines)), f"{title}: {advice}", where)
    console.print(table)


def diagnosis_line(diagnosis: Diagnosis) -> str:
    """One line: how many images of which kind."""
    classes = next(iter(diagnosis.counts.values()))
    parts = [f"{sum(n.values())} {split}" for split, n in diagnosis.counts.items()]
    return (
        f"{diagnosis.source}: {diagnosis.images} images in {len(classes)} classes "
        f"({', '.join(parts)}), {diagnosis.unlabelled} unlabelled"
    )
