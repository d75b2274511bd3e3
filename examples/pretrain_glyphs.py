"""Remake the embedded weights: train a narrow ResNet-50 to tell 500 invented glyphs apart.

    python examples/pretrain_glyphs.py --out glyphs.npz

It is a whole training program, and a good first one to read: data, network, optimizer, learning
rate, loop, validation, file. Every image is written anew by examples/glyphs.py, so there are no
epochs, and nothing can be learnt by heart. None of them is a digit: that the features serve for
handwritten digits, too, is what `python -m resnet_np.finetune` then shows.
"""

import math
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
from glyphs import Alphabet, invent_alphabet, write_images
from rich.console import Console

from resnet_np import Tensor, __version__, cross_entropy, no_grad
from resnet_np.command import Parser, count, path_of, run_command, seed, writable
from resnet_np.models import ResNet, resnet50
from resnet_np.models.pretrained import load_weights
from resnet_np.optim import AdamW, Optimizer
from resnet_np.training import report
from resnet_np.training.loop import Progress
from resnet_np.weights import Contract, save_npz

GLYPHS = 500
WIDTH = 0.25  # a quarter of the channels: a sixteenth of the arithmetic
IMAGE_SIZE = 32  # the smallest that the network takes; the digits have 8 x 8 pixels to begin with
BATCH = 128
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.05, 200
REPORT_EVERY = 100  # steps
VALIDATION = 2000  # glyphs

# Mean and standard deviation of the glyphs' pixels, the same for red, green and blue.
CONTRACT = Contract(mean=(0.25,) * 3, std=(0.35,) * 3, resize=IMAGE_SIZE, crop=IMAGE_SIZE)


def make_parser() -> Parser:
    parser = Parser(
        prog="python examples/pretrain_glyphs.py",
        description="Remake the embedded weights.",
    )
    add = parser.add_argument
    add("--out", metavar="FILE", type=path_of("file"), required=True, help="the .npz to write")
    add("--steps", metavar="N", type=count, default=2000,
        help=f"batches of {BATCH} glyphs to train on (default: 2000)")  # fmt: skip
    add("--seed", metavar="N", type=seed, default=0,
        help="of the glyphs, the first weights and the handwriting (default: 0)")  # fmt: skip
    return parser


def main() -> None:
    arguments = make_parser().parse_args()
    out = Path(arguments.out)
    writable("--out", out)  # better now than after the training

    console = Console()
    alphabet = invent_alphabet(GLYPHS, arguments.seed)
    model = resnet50(width=WIDTH, num_classes=GLYPHS, seed=arguments.seed)
    began = time.monotonic()
    train(model, alphabet, arguments.steps, arguments.seed, console)
    minutes = (time.monotonic() - began) / 60
    console.print(f"trained on {arguments.steps * BATCH:,} glyphs in {minutes:.1f} minutes")

    right = accuracy(model, alphabet, arguments.seed)
    save(out, model, arguments.steps, arguments.seed, right, minutes)
    stored = resnet50(width=WIDTH, num_classes=GLYPHS)
    load_weights(stored, out)
    console.print(
        f"accuracy on {VALIDATION} new glyphs: {right:.4f}; "
        f"read back from {out}: {accuracy(stored, alphabet, arguments.seed):.4f}"
    )


def train(model: ResNet, alphabet: Alphabet, steps: int, seed: int, console: Console) -> None:
    """The training loop: write a batch, forward, loss, backward, step."""
    rng = np.random.default_rng([seed, 1])
    optimizer = AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    model.train()
    progress = Progress()
    with report.bars(console) as bars:
        task = bars.add_task("glyphs", total=steps, figures="")
        for step in range(1, steps + 1):
            set_learning_rate(optimizer, LEARNING_RATE * schedule(step, steps))
            labels = rng.integers(len(alphabet), size=BATCH)
            images = write_images(alphabet, labels, rng, IMAGE_SIZE)
            train_step(model, optimizer, images, labels, progress)
            bars.update(task, completed=step, figures=report.batch_line(progress))
            if step % REPORT_EVERY == 0:
                console.print(f"step {step:>5}  {report.batch_line(progress)}", highlight=False)
                progress = Progress()


def train_step(
    model: ResNet,
    optimizer: Optimizer,
    images: np.ndarray,
    labels: np.ndarray,
    progress: Progress,
) -> None:
    """One step downhill. images: uint8 [N, S, S, 3]; labels: int [N]."""
    logits = model(Tensor(CONTRACT.normalise(images)))
    loss = cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    progress.add(len(labels), loss.item(), int((logits.data.argmax(axis=1) == labels).sum()))


def schedule(step: int, steps: int) -> float:
    """The share of the full learning rate in step 1, ..., steps.

    Up in a straight line during WARM_UP steps, while the running averages of a new optimizer are
    still rough; down to zero along a cosine (Loshchilov & Hutter 2017, "SGDR", eq. 5).
    """
    return min(step / WARM_UP, 1.0) * 0.5 * (1 + math.cos(math.pi * step / steps))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.groups:
        group["lr"] = rate


def accuracy(model: ResNet, alphabet: Alphabet, seed: int) -> float:
    """The share of right answers on glyphs that training has not seen, with running statistics."""
    rng = np.random.default_rng([seed, 2])
    labels = rng.integers(len(alphabet), size=VALIDATION)
    images = write_images(alphabet, labels, rng, IMAGE_SIZE)
    model.eval()
    with no_grad():
        parts = [CONTRACT.normalise(images[i : i + BATCH]) for i in range(0, VALIDATION, BATCH)]
        answers = np.concatenate([model(Tensor(x)).data.argmax(axis=1) for x in parts])
    return float((answers == labels).mean())


def save(path: Path, model: ResNet, steps: int, seed: int, right: float, minutes: float) -> None:
    """Write a checkpoint. Convolutions and the head, nearly all of the numbers, are stored in 16
    bits: half the size, and features move by less than a thousandth of the largest. Readers widen
    them.
    """
    arrays = {
        f"model/{name}": array.astype(np.float16) if array.ndim > 1 else array
        for name, array in model.state_dict().items()
    }
    record = {
        "model": model.config,
        "classes": [f"glyph {i}" for i in range(GLYPHS)],
        "contract": CONTRACT.to_record(),
        "image_size": IMAGE_SIZE,
        "provenance": {
            "script": "examples/pretrain_glyphs.py",
            "arguments": {"steps": steps, "seed": seed},
            "resnet_np": __version__,
            "numpy": np.__version__,
            "date": date.today().isoformat(),
            "minutes": round(minutes, 1),
            "glyph_accuracy": right,
        },
    }
    save_npz(path, arrays, record)


if __name__ == "__main__":
    sys.exit(run_command(main))
