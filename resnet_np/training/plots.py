"""Pictures of a training run, drawn without a screen: as PNG files, or as SVG inside a page."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.weights.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY_CLASSES = 25  # above this, numbers in the cells of a confusion matrix cannot be read


def draw_curves(history: list[dict[str, Any]]) -> "Figure":
    """Loss and accuracy by epoch, training and validation, side by side.

    history: one record per epoch with `epoch`, `train_loss`, `train_accuracy`, `validation_loss`
    and `validation_accuracy`.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(width=9, height=3.6)
    epochs = [entry["epoch"] for entry in history]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, style in (("train", "--"), ("validation", "-")):
            values = [entry[f"{split}_{quantity}"] for entry in history]
            axes.plot(epochs, values, style, marker=".", label=split)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(quantity)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def draw_confusion(matrix: np.ndarray, classes: tuple[str, ...], title: str) -> "Figure":
    """The confusion matrix [K, K]: true classes as rows, answers as columns, shaded row by row."""
    k = len(classes)
    side = min(3 + 0.45 * k, 20)
    figure = _figure(width=side, height=side)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if k <= MANY_CLASSES:
        names = [name.encode(errors="replace").decode() for name in classes]  # folders: any bytes
        turned = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(range(k), names, rotation=turned, parse_math=False)  # $ is no formula
        axes.set_yticks(range(k), names, parse_math=False)
        for row, column in np.argwhere(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            number = str(matrix[row, column])
            axes.text(column, row, number, ha="center", va="center", color=color)
    return figure


def draw_rates(rates: np.ndarray, losses: np.ndarray, chosen: float) -> "Figure":
    """The loss over the learning rate, and the rate that is suggested."""
    figure = _figure(width=7, height=4)
    axes = figure.subplots()
    axes.semilogx(rates, losses)
    axes.axvline(chosen, linestyle="--", color="tab:orange", label=f"falls fastest: {chosen:.2g}")
    axes.set_xlabel("learning rate of the head")
    axes.set_ylabel("loss, smoothed")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _figure(width: float, height: float) -> "Figure":
    """A figure that no window system and no global list knows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write the picture, whole or not at all. Raises UserError."""
    with atomic_file(path) as file, _any_letter():
        figure.savefig(file, format="png", dpi=110)


def to_svg(figure: "Figure") -> str:
    """The picture as an element of a page; the same text for the same picture."""
    from matplotlib import rc_context

    text = io.StringIO()
    with _any_letter(), rc_context({"svg.hashsalt": "resnet_np", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


@contextmanager
def _any_letter() -> Iterator[None]:
    """A letter that the font lacks becomes a box, which everybody sees: no warning is needed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
