"""Do the files of the real frameworks give these frameworks' logits here?

    KERAS_BACKEND=torch python benchmarks/acceptance/08_sources.py

Each row is a network of one framework in which every tensor has random numbers of its own, each
column a format that the framework saved it in; a cell is max|a - b| / max|b| of the logits (pooled
features where there is no head) on two 224-pixel images. What a reader has to find out about each
file (source, depth, variant, epsilon, biases, what is left out) is compared, too. Exits with 1 if
anything is wrong or out of bounds. Needs what `tests/compare/install.sh` installs; some minutes.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))
import sources
from imported import noise
from sources import FORMATS, SOURCES

from resnet_np.errors import UserError

BOUND = 1e-5
SIZE = 224
IMAGES = 2


def cells(name: str) -> Iterator[tuple[str, float, list[str]]]:
    """(format, relative error, what else is wrong) of one source."""
    source = SOURCES[name](SIZE, 1)
    images = noise(IMAGES, SIZE)
    expected = source.run(images)
    for format in source.save:
        try:
            file = sources.read_back(source, format)
            error = sources.error(source, file, images, expected)
        except UserError as refused:
            yield format, float("inf"), [str(refused)]
            continue
        wrong = sources.wrong_facts(source, format, file)
        yield format, error, wrong if error <= BOUND else [*wrong, f"above {BOUND:.0e}"]


def main() -> int:
    warnings.simplefilter("ignore")  # of the frameworks, about their own formats
    problems = []
    columns = {format: max(len(format), 7) for format in FORMATS}
    width = max(len(name) for name in SOURCES)
    print(" " * width, *(f"{format:>{n}}" for format, n in columns.items()), sep="  ")
    for name in SOURCES:
        row = dict.fromkeys(columns, "-")
        for format, error, wrong in cells(name):
            row[format] = f"{error:.1e}"
            problems += [f"{name}, {format}: {what}" for what in wrong]
        texts = (f"{row[format]:>{n}}" for format, n in columns.items())
        print(f"{name:{width}}", *texts, sep="  ", flush=True)
    print("\n".join(problems) or f"all within {BOUND:.0e}, and nothing else wrong")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
