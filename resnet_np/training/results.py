"""What a run leaves behind: figures, pictures, and the command to try next."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.data.loader import ArrayImages, FolderImages, Images, name_of
from resnet_np.data.sources import Entry
from resnet_np.training import report
from resnet_np.training.evaluating import Answers, write_answers
from resnet_np.training.folder import HISTORY
from resnet_np.training.metrics import confusion_matrix, judge
from resnet_np.training.page import Outcome, write_page
from resnet_np.training.plots import draw_confusion, draw_curves, save_png
from resnet_np.training.recipe import NAME as RECIPE
from resnet_np.training.recipe import recipe_text
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.inspecting import print_line

if TYPE_CHECKING:
    from rich.console import Console

CURVES, CONFUSION, REPORT = "curves.png", "confusion.png", "report.html"
PREDICTIONS = "predictions.csv"
SAMPLES = 5  # images from memory that are saved as files, so that there is something to predict


def write_results(folder: Path, outcome: Outcome, console: "Console") -> None:
    """Print the table of figures; write history.json, curves.png, confusion.png, report.html,
    recipe.toml, predictions.csv (of the test images) and, for images without files, samples/.

    The last line printed is a command that runs. Raises UserError.
    """
    logits, splits, history = outcome.logits, outcome.splits, outcome.history
    figures = {split: judge(z, splits[split].labels) for split, z in logits.items()}
    report.print_figures(console, figures, {split: len(z) for split, z in logits.items()})
    last = "test" if "test" in splits else "validation"
    images, answers = splits[last], logits[last].argmax(axis=1)
    record = {
        "arguments": outcome.options.to_record(),
        "classes": list(images.classes),
        "weights": outcome.weights,
        "figures": {split: asdict(f) for split, f in figures.items()},
        "history": history,
    }
    matrix = confusion_matrix(images.labels, answers, len(images.classes))
    title = f"{last}: {figures[last].accuracy:.1%} of {len(answers)} right"
    curves, confusion = draw_curves(history), draw_confusion(matrix, images.classes, title)
    save_png(curves, folder / CURVES)
    save_png(confusion, folder / CONFUSION)
    write_answers(folder / PREDICTIONS, _answers(images, logits[last], last))
    with atomic_file(folder / RECIPE) as file:
        file.write(recipe_text(outcome.options).encode(errors="backslashreplace"))
    write_page(folder / REPORT, outcome, figures, curves, confusion)
    example = _example(folder, images)
    command = [_python(), "-m", "resnet_np.predict", str(folder / outcome.checkpoint), str(example)]
    with atomic_file(folder / HISTORY) as file:
        file.write(json.dumps(record, indent=1).encode())
    written = outcome.checkpoint, CONFUSION, CURVES, HISTORY, PREDICTIONS, RECIPE, REPORT
    print_line(console, f"written to {folder}: {', '.join(written)}")
    print_line(console, f"next: {shlex.join(command)}")


def _answers(images: Images, logits: np.ndarray, split: str) -> Answers:
    """What the network says of each image of a split."""
    classes = images.classes
    names = [name_of(images, i) for i in range(len(images.labels))]
    entries = tuple(
        Entry(Path(name), name, classes[label], split)
        for name, label in zip(names, images.labels, strict=True)
    )
    return Answers(entries, logits, images.labels, classes)


def _python() -> str:
    """What to type here for the interpreter that runs this: `python` if that is it, or its path.

    Links are not followed: those of a virtual environment all lead to one file.
    """
    executable = os.path.abspath(sys.executable)
    found = shutil.which("python")
    beside = found and Path(found).parent.samefile(Path(executable).parent)
    if found and beside and os.path.samefile(found, executable):
        return "python"
    below = os.path.relpath(executable)
    return executable if below.startswith(os.pardir) else below


def _example(folder: Path, images: Images) -> Path:
    """An image file to predict: one of the user's, or of some that are saved for it."""
    if isinstance(images, FolderImages):
        return images.paths[0]
    assert isinstance(images, ArrayImages)
    from PIL import Image

    samples = folder / "samples"
    samples.mkdir(exist_ok=True)
    paths = []
    for label in np.unique(images.labels)[:SAMPLES]:
        index = int(np.flatnonzero(images.labels == label)[0])
        paths.append(samples / f"{label}.png")  # a class may be called anything
        with atomic_file(paths[-1]) as file:
            Image.fromarray(images.images[index]).save(file, format="png")
    return paths[-1]
