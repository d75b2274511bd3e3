"""Draw docs/picture.png: what the embedded network learnt from, what it is, and what it then reads.

    python docs/make_picture.py

Fine-tunes the embedded network on the digits first, as `python -m resnet_np.finetune` does.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import FancyBboxPatch
from rich.console import Console

from resnet_np import Tensor, no_grad
from resnet_np.models import STAGES
from resnet_np.training.checkpoint import load_checkpoint, restore_model
from resnet_np.training.finetuning import finetune
from resnet_np.training.options import Options
from resnet_np.training.setup import load_splits

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from glyphs import invent_alphabet, write

ROWS, COLUMNS = 6, 6
FROZEN, TRAINED = "#bcd2ee", "#f6c28b"
Tile = tuple[np.ndarray, str, str]  # image, text below it, colour of the text


def main() -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.15, 1))
    left.suptitle("pre-trained on glyphs that this project invents", fontsize=10)
    tiles(left, glyph_tiles())
    middle.suptitle("ResNet-50: the trunk frozen, a new head trained", fontsize=10)
    network(middle.subplots())
    right.suptitle("fine-tuned to read handwritten digits", fontsize=10)
    tiles(right, digit_tiles())
    figure.savefig(Path(__file__).with_name("picture.png"), dpi=110)


def tiles(figure: SubFigure, images: list[Tile]) -> None:
    """A grid of small images."""
    for axes, (image, text, colour) in zip(
        figure.subplots(ROWS, COLUMNS).flat, images, strict=True
    ):
        axes.imshow(image, cmap="gray_r", vmin=0)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(text, color=colour, labelpad=1, fontsize=8)


def glyph_tiles() -> list[Tile]:
    """Each row: one glyph, written anew each time."""
    labels = np.repeat(np.arange(ROWS), COLUMNS)
    ink = write(invent_alphabet(500, seed=0), labels, np.random.default_rng(0))
    return [(image, "", "black") for image in ink]


def digit_tiles() -> list[Tile]:
    """The first test images, each with what the fine-tuned network says: red where it is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(out=folder)
        finetune(options, None, Console())
        checkpoint = load_checkpoint(Path(folder) / "checkpoint.npz")
    model, contract = restore_model(checkpoint).eval(), checkpoint.contract
    test = load_splits(options, contract, checkpoint.record["image_size"])["test"]
    images = test.read(np.arange(ROWS * COLUMNS))
    with no_grad():
        answers = model(Tensor(contract.normalise(images))).numpy().argmax(axis=1)
    return [
        (image[..., 0], checkpoint.classes[answer], "black" if answer == label else "red")
        for image, answer, label in zip(images, answers, test.labels, strict=False)
    ]


def network(axes: Axes) -> None:
    """The stages as boxes: as wide as they have channels, with their output at 224 pixels."""
    axes.set_xlim(0, 10)
    axes.set_ylim(len(STAGES) - 0.3, -0.7)
    axes.axis("off")
    says = (
        "7x7 conv, 3x3 max pool -> 56 x 56 x 64",
        "3 bottleneck blocks -> 56 x 56 x 256",
        "4 bottleneck blocks -> 28 x 28 x 512",
        "6 bottleneck blocks -> 14 x 14 x 1024",
        "3 bottleneck blocks -> 7 x 7 x 2048",
        "mean over the image -> 2048",
        "linear -> one number for each class",
    )
    for row, (stage, text) in enumerate(zip(STAGES, says, strict=True)):
        colour = TRAINED if stage == "fc" else FROZEN
        box = FancyBboxPatch((0.3, row - 0.32), 9.4, 0.6, boxstyle="round,pad=0.05", fc=colour)
        axes.add_patch(box)
        axes.text(0.6, row, stage, va="center", fontsize=9, weight="bold")
        axes.text(2.3, row, text, va="center", fontsize=9)


if __name__ == "__main__":
    main()
