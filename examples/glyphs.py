"""An invented handwriting: images to learn from, drawn by this file and nothing else.

A glyph is one to four random strokes (lines, arcs, curves, loops), most of them joined; an alphabet
is some hundred glyphs. No digit, letter or font is drawn on purpose. `write` writes a glyph as a
person would, never the same way twice, and stores it as scikit-learn's handwritten digits are
stored: scaled to the height of the page, ink counted in 8 x 8 cells. A network that tells such
glyphs apart has learnt what is a stroke, a bend, a loop, a crossing, whatever the pen and the
slant: what it needs to read digits, too.

    python examples/glyphs.py sheet.png     draws a sheet: one glyph in each row

Letters in shapes: N glyphs written, G glyphs in the alphabet, S strokes, T points of a stroke; the
last axis holds x and y, y pointing down.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from resnet_np.command import Parser, path_of, run_command, writable
from resnet_np.data.digits import LEVELS, enlarge
from resnet_np.errors import UserError
from resnet_np.weights.atomic import atomic_file

STROKES, POINTS = 4, 16  # at most so many strokes in a glyph; so many points in each
JOINED = 0.75  # the share of strokes that start where another one runs or ends
CELLS, CANVAS = 8, 64  # the image; and the page it is counted from, in pixels
PEN = (4.0, 10.0)  # thinnest and thickest pen, in pixels of the page

T = np.linspace(0, 1, POINTS)[:, None]  # [T, 1]


@dataclass(frozen=True)
class Alphabet:
    """strokes: float64 [G, S, T, 2], in about -1..1; used: bool [G, S], which of them there are."""

    strokes: np.ndarray
    used: np.ndarray

    def __len__(self) -> int:
        return len(self.strokes)


# --- Inventing glyphs


def invent_alphabet(glyphs: int, seed: int) -> Alphabet:
    """An alphabet of this many glyphs. The same seed invents the same one."""
    rng = np.random.default_rng(seed)
    strokes = np.zeros((glyphs, STROKES, POINTS, 2))
    used = np.zeros((glyphs, STROKES), dtype=bool)
    for g in range(glyphs):
        glyph = _invent_glyph(rng)
        strokes[g, : len(glyph)] = glyph
        used[g, : len(glyph)] = True
    return Alphabet(strokes, used)


def _invent_glyph(rng: np.random.Generator) -> np.ndarray:
    """One to STROKES strokes, moved and stretched to fill the square -1..1: [strokes, T, 2]."""
    strokes: list[np.ndarray] = []
    for _ in range(rng.integers(1, STROKES, endpoint=True)):
        stroke = KINDS[rng.integers(len(KINDS))]
        strokes.append(stroke(_start(strokes, rng), rng))
    glyph = np.stack(strokes)
    low, high = glyph.min(axis=(0, 1)), glyph.max(axis=(0, 1))
    # A straight stroke has no width: do not stretch what is thinner than 0.6.
    return (glyph - (low + high) / 2) * 2 / np.maximum(high - low, 0.6)


def _start(strokes: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Where the next stroke starts: on an earlier one, often at its end, or anywhere."""
    if not strokes or rng.random() > JOINED:
        return rng.uniform(-1, 1, 2)
    earlier = strokes[rng.integers(len(strokes))]
    return earlier[-1 if rng.random() < 0.7 else rng.integers(POINTS)]


def _line(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return start + (rng.uniform(-1, 1, 2) - start) * T


def _arc(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter of a circle to nearly a whole one."""
    sweep = rng.uniform(0.5, 1.6) * np.pi * rng.choice([-1, 1])
    angle = rng.uniform(0, 2 * np.pi) + sweep * T
    circle = rng.uniform(0.25, 0.9) * np.hstack([np.cos(angle), np.sin(angle)])
    return start + circle - circle[0]


def _curve(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cubic Bezier curve."""
    a, b, end = rng.uniform(-1.2, 1.2, (3, 2))
    s = 1 - T
    return s**3 * start + 3 * s**2 * T * a + 3 * s * T**2 * b + T**3 * end


def _loop(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A whole ellipse, tilted."""
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * T
    ellipse = rng.uniform(0.2, 0.7, 2) * np.hstack([np.cos(angle), np.sin(angle)])
    ellipse = ellipse @ _rotation(rng.uniform(0, np.pi))
    return start + ellipse - ellipse[0]


Stroke = Callable[[np.ndarray, np.random.Generator], np.ndarray]
KINDS: tuple[Stroke, ...] = (_line, _arc, _curve, _loop)


# --- Writing them


def write(alphabet: Alphabet, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write each of these glyphs once, by hand: labels int [N] -> ink uint8 [N, 8, 8], 0..16."""
    used = alphabet.used[labels]
    x = _jiggle_strokes(alphabet.strokes[labels], rng)
    x = _slant(_bend(x, rng), rng)
    x += rng.normal(0, 0.02, x.shape)  # the hand trembles
    pen = rng.uniform(*PEN, len(x))
    x = _fit_page(x, used, pen, rng)
    pages = np.stack([_ink(x[n][used[n]], round(pen[n])) for n in range(len(x))])
    cells = pages.reshape(len(x), CELLS, CANVAS // CELLS, CELLS, CANVAS // CELLS)
    return np.floor(cells.mean(axis=(2, 4)) * LEVELS / 255 + 0.5).astype(np.uint8)


def write_images(
    alphabet: Alphabet, labels: np.ndarray, rng: np.random.Generator, size: int
) -> np.ndarray:
    """`write`, then enlarged exactly as the digits are: uint8 [N, size, size, 3]."""
    return enlarge(write(alphabet, labels, rng), size)


def _jiggle_strokes(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, scale and move each stroke a little, about its own centre. x: [N, S, T, 2]."""
    n, s = x.shape[:2]
    turn = _rotation(rng.normal(0, 0.12, (n, s)))
    scale = np.exp(rng.normal(0, 0.08, (n, s, 1, 2)))
    centre = x.mean(axis=2, keepdims=True)
    return (x - centre) * scale @ turn + centre + rng.normal(0, 0.08, (n, s, 1, 2))


def _bend(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend the sheet: add three slow waves of random direction. x: [N, S, T, 2]."""
    n = len(x)
    frequency = rng.uniform(0.75, 3, (n, 1, 2, 3)) * rng.choice([-1, 1], (n, 1, 2, 3))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1, 3))
    height = rng.normal(0, 0.12, (n, 1, 3, 2))
    return x + np.sin(x @ frequency + phase) @ height  # [N, S, T, 2] -> [.., 3] -> [.., 2]


def _slant(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, slant and stretch the whole glyph. x: [N, S, T, 2]."""
    n = len(x)
    slant = np.zeros((n, 2, 2)) + np.eye(2)
    slant[:, 1, 0] = rng.normal(0, 0.3, n)  # x += slant * y
    stretch = np.exp(rng.normal(0, 0.2, (n, 1, 2)))
    return x @ (slant * stretch @ _rotation(rng.normal(0, 0.17, n)))[:, None]


def _fit_page(
    x: np.ndarray, used: np.ndarray, pen: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """To pixels of the page: as high as the page, narrower than high. x: [N, S, T, 2]."""
    n = len(x)
    there = used[:, :, None, None]
    low = np.where(there, x, np.inf).min(axis=(1, 2))  # [N, 2]
    high = np.where(there, x, -np.inf).max(axis=(1, 2))
    extent = np.maximum(high - low, 0.5)
    room = np.stack([rng.uniform(32, 52, n), CANVAS - rng.uniform(0, 2, n)], axis=1)
    scale = (room - 0.8 * pen[:, None]) / extent
    scale[:, 0] = scale.min(axis=1)  # what is narrow stays narrow
    middle = CANVAS / 2 + rng.normal((-0.5, 0), (2, 0.5), (n, 2))
    place = middle - scale * (low + high) / 2
    return x * scale[:, None, None] + place[:, None, None]


def _ink(strokes: np.ndarray, pen: int) -> np.ndarray:
    """Draw strokes [S, T, 2] on an empty page: uint8 [CANVAS, CANVAS], 0 or 255."""
    page = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(page)
    for stroke in strokes:
        draw.line(stroke.ravel().tolist(), fill=255, width=pen, joint="curve")
    return np.asarray(page)


def _rotation(angle: np.ndarray | float) -> np.ndarray:
    """The matrices [..., 2, 2] that turn row vectors by these angles [...]: x @ rotation."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)], axis=-2)


# --- Looking at them


def sheet(alphabet: Alphabet, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """The first `rows` glyphs, each written `columns` times: one grey image, uint8."""
    ink = write(alphabet, np.repeat(np.arange(rows), columns), rng)
    grey = np.pad(255 - ink * (255 // LEVELS), ((0, 0), (1, 1), (1, 1)), constant_values=255)
    grid = grey.reshape(rows, columns, CELLS + 2, CELLS + 2)
    grid = grid.transpose(0, 2, 1, 3)  # [row, column, y, x] -> [row, y, column, x]
    return grid.reshape(rows * (CELLS + 2), columns * (CELLS + 2))


def main() -> None:
    """Read the argument and draw. Raises UserError."""
    parser = Parser(
        prog="python examples/glyphs.py",
        description="Draw a sheet of an invented handwriting: one glyph in each row.",
    )
    parser.add_argument(
        "sheet", metavar="SHEET.png", type=path_of("file"), help="the picture to write"
    )
    path = Path(parser.parse_args().sheet)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the sheet is a PNG; give it a name that ends in .png")
    writable("SHEET.png", path)
    image = Image.fromarray(sheet(invent_alphabet(500, seed=0), 12, 16, np.random.default_rng(0)))
    larger = image.resize((image.width * 5, image.height * 5), Image.Resampling.NEAREST)
    with atomic_file(path) as file:
        larger.save(file, format="png")


if __name__ == "__main__":
    sys.exit(run_command(main))
