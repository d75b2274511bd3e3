"""Sketches of thirteen everyday things: a data set for image classification that nobody downloads.

    python examples/sketches/draw.py sketches --images 80 --seed 0   # sketches/<class>/0000.png ...
    python examples/sketches/draw.py --sheet sheet.png               # one class in each row

objects.py says what a house or a fish is made of. Here is the hand that draws it: it trembles,
stops short or goes too far at the end of a stroke, leans, stretches, and puts the thing anywhere
on the page. Pencil and paper differ from sketch to sketch as well.
"""

import sys
from pathlib import Path

import numpy as np
from objects import OBJECTS, Doodle, Stroke, turned
from PIL import Image, ImageDraw
from rich.console import Console

from resnet_np.command import Parser, count, run_command, seed
from resnet_np.data.sheet import draw_sheet
from resnet_np.errors import UserError
from resnet_np.training import report
from resnet_np.weights.atomic import atomic_file

SIZE = 256  # of the page, in pixels
FINER = 2  # ink is drawn on a page so many times as large, and averaged: soft edges
MARGIN = 10  # pixels at each border that stay white
POINTS = 64  # in each stroke, once the hand has drawn it
COLUMNS, CELL = 12, 96  # of the sheet
CLASSES = [thing.__name__ for thing in OBJECTS]

Rng = np.random.Generator


def sketch(seed: int, number: int, index: int) -> np.ndarray:
    """The image of this index in the class of this number: uint8 [SIZE, SIZE].

    Each image has a generator of its own, so it is the same however many others are drawn.
    """
    rng = np.random.default_rng([seed, number, index])
    doodle = Doodle(rng)
    OBJECTS[number](doodle)
    pen = rng.uniform(2, 5.5)
    return shade(ink(place(by_hand(doodle.strokes, rng), pen, rng), pen, rng), rng)


# --- The hand. Letters in shapes: S strokes, T points of each


def by_hand(strokes: list[Stroke], rng: Rng) -> np.ndarray:
    """The strokes [P, 2] as a person in a hurry would draw them: [S, T, 2]."""
    haste = rng.uniform(0.4, 1.6)
    drawn = [tremble(trace(stroke, haste, rng), haste, rng) for stroke in strokes]
    again = [stroke for stroke in strokes if rng.random() < 0.06]  # it was not good enough
    drawn += [tremble(trace(stroke, haste, rng), haste, rng) for stroke in again]
    return lean(np.stack(drawn), rng)


def trace(stroke: Stroke, haste: float, rng: Rng) -> np.ndarray:
    """Even steps from near its start to near its end, a little short or too far: [T, 2]."""
    steps = np.diff(stroke, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    first, last = steps[[0, -1]] / lengths[[0, -1], None]
    path = np.concatenate([stroke[:1] - first, stroke, stroke[-1:] + last])  # 1 longer at each end
    at = np.cumsum([-1, 1, *lengths, 1])
    slip = rng.normal(0, 0.03, 2) * haste * min(1, lengths.sum())
    wanted = np.linspace(slip[0], lengths.sum() + slip[1], POINTS)
    return np.stack([np.interp(wanted, at, path[:, axis]) for axis in (0, 1)], axis=1)


def tremble(x: np.ndarray, haste: float, rng: Rng) -> np.ndarray:
    """Slow waves along a stroke [T, 2], higher in longer ones; and it starts at a wrong place."""
    length = np.linalg.norm(np.diff(x, axis=0), axis=1).sum()
    t = np.linspace(0, 1, POINTS)[:, None]
    wave = np.zeros_like(x)
    for frequency in (0.5, 1, 2, 4):
        height = rng.normal(0, 0.015 / frequency, 2)
        wave += height * np.sin(2 * np.pi * (frequency * t + rng.random(2)))
    size = haste * min(1, length) ** 0.5
    return x + size * (wave + rng.normal(0, 0.015, 2))


def lean(x: np.ndarray, rng: Rng) -> np.ndarray:
    """Turn, slant, stretch, and perhaps mirror a whole drawing [S, T, 2]."""
    slant = np.array([[1, 0], [rng.normal(0, 0.12), 1]])
    stretch = np.exp(rng.normal(0, 0.12, 2)) * [rng.choice([-1, 1]), 1]
    return turned(x * stretch @ slant, rng.normal(0, 0.016))


def place(x: np.ndarray, pen: float, rng: Rng) -> np.ndarray:
    """To pixels of the page, anywhere where nothing is cut off: [S, T, 2]."""
    low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
    page = SIZE - 2 * MARGIN - 2 * pen
    scale = page * rng.uniform(0.65, 1) / (high - low).max()
    room = page - scale * (high - low)
    corner = MARGIN + pen + room * np.clip(rng.normal(0.5, 0.2, 2), 0, 1)
    return (x - low) * scale + corner


# --- Pencil and paper


def ink(x: np.ndarray, pen: float, rng: Rng) -> np.ndarray:
    """Draw strokes [S, T, 2] on an empty page: float64 [SIZE, SIZE], 0 to 1."""
    page = Image.new("L", (SIZE * FINER, SIZE * FINER))
    draw = ImageDraw.Draw(page)
    for stroke in x * FINER:
        width = pen * FINER * rng.uniform(0.8, 1.2)
        draw.line(stroke.ravel().tolist(), fill=255, width=round(width))
        for end in stroke[[0, -1]]:
            draw.circle(end.tolist(), width / 2, fill=255)
    return np.asarray(page.reduce(FINER)) / 255


def shade(drawn: np.ndarray, rng: Rng) -> np.ndarray:
    """Pencil [SIZE, SIZE], 0 to 1, on off-white paper, both with a grain: uint8 of that shape."""
    paper, black = rng.uniform(232, 252), rng.uniform(20, 100)
    pressed = drawn * (1 - rng.uniform(0, 0.3) * rng.random(drawn.shape))
    grey = paper + (black - paper) * pressed + rng.normal(0, 1.2, drawn.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


# --- The command


def make_parser() -> Parser:
    """The arguments of the command."""
    parser = Parser(
        prog="python examples/sketches/draw.py",
        description=f"Draw sketches of {len(CLASSES)} classes: {', '.join(CLASSES)}.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", metavar="FOLDER", nargs="?", help="a new folder, for the images")
    what.add_argument("--sheet", metavar="FILE.png", help="draw a sheet of them, to look at")
    add = parser.add_argument
    add(
        "--images",
        metavar="N",
        type=count,
        default=80,
        help=f"of each class (default: 80; a sheet shows the first {COLUMNS})",
    )
    add("--seed", metavar="N", type=seed, default=0, help="of the drawings (default: 0)")
    return parser


def write_folder(folder: Path, images: int, seed: int) -> None:
    """FOLDER/<class>/<index>.png. Raises UserError if there is anything in the folder already."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UserError(f"{folder}: the folder is not empty; give a new one")
    with report.bars(Console(stderr=True), passing=True) as bars:
        task = bars.add_task("sketches", total=len(CLASSES) * images, figures="")
        for number, name in enumerate(CLASSES):
            (folder / name).mkdir()
            for index in range(images):
                with atomic_file(folder / name / f"{index:04d}.png") as file:
                    Image.fromarray(sketch(seed, number, index)).save(file, format="png")
                bars.advance(task)
    print(f"{folder}: {len(CLASSES)} classes, {images} image(s) of each")


def write_sheet(path: Path, images: int, seed: int) -> None:
    """The first images of each class, one class in each row."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--sheet {path}: the sheet is a PNG; give it a name that ends in .png")
    columns = [
        [sketch(seed, number, index) for number in range(len(CLASSES))]
        for index in range(min(images, COLUMNS))
    ]
    headings = [f"{index:04d}.png" for index in range(len(columns))]
    with atomic_file(path) as file:
        draw_sheet(columns, headings, CLASSES, CELL).save(file, format="png")
    print(f"{path}: {len(CLASSES)} classes, {len(columns)} image(s) of each")


def main() -> None:
    """Read the arguments and draw. Raises UserError."""
    arguments = make_parser().parse_args()
    if arguments.sheet is not None:
        write_sheet(Path(arguments.sheet), arguments.images, arguments.seed)
    else:
        write_folder(Path(arguments.folder), arguments.images, arguments.seed)


if __name__ == "__main__":
    sys.exit(run_command(main))
