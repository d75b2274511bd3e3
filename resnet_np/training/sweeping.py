"""Which combinations of options a sweep runs, and running one of them, or what is left of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError
from resnet_np.training.checkpoint import load_checkpoint
from resnet_np.training.comparing import read_run
from resnet_np.training.finetuning import finetune, resumed_options
from resnet_np.training.folder import BEST, CHECKPOINT, HISTORY
from resnet_np.training.options import Options

if TYPE_CHECKING:
    from rich.console import Console

Combination = dict[str, str]  # option -> its value, as it would be typed


@dataclass(frozen=True)
class Values:
    """What an option may be: one of some texts, or any number of a range."""

    option: str
    texts: tuple[str, ...]
    range: tuple[float, float] | None = None

    @classmethod
    def parse(cls, text: str) -> "Values":
        """From "lr=0.1|0.01" or "lr=0.0001..0.1". Raises UserError for anything else."""
        option, equals, said = text.partition("=")
        if not equals or not option:
            raise UserError(f"--vary {text}: write it like lr=0.1|0.01, or lr=0.0001..0.1")
        low, dots, high = said.partition("..")
        if not dots:
            return cls(option.lstrip("-").replace("_", "-"), tuple(said.split("|")))
        try:
            limits = float(low), float(high)
        except ValueError:
            limits = math.nan, math.nan
        if not 0 < limits[0] < limits[1] < math.inf:
            raise UserError(f"--vary {text}: a range is two numbers above 0, the smaller one first")
        return cls(option.lstrip("-").replace("_", "-"), (), limits)

    def draw(self, rng: np.random.Generator) -> str:
        """One of them: of a range evenly by its logarithm, as rates are thought of."""
        if self.range is None:
            return self.texts[rng.integers(len(self.texts))]
        low, high = map(math.log, self.range)
        return f"{math.exp(rng.uniform(low, high)):.4g}"


def combine(varied: Sequence[Values], draws: int | None, seed: int) -> list[Combination]:
    """All combinations; or so many of them, drawn at random. Raises UserError."""
    if len({values.option for values in varied}) < len(varied):
        raise UserError("--vary: an option stands there twice; put | between its values")
    if draws is not None:
        rng = np.random.default_rng([seed, 3])  # apart from those of the runs
        return [{values.option: values.draw(rng) for values in varied} for _ in range(draws)]
    for values in varied:
        if values.range is not None:
            raise UserError(f"--vary {values.option}: a range needs --random N")
    options = [values.option for values in varied]
    return [
        dict(zip(options, texts, strict=True))
        for texts in product(*(values.texts for values in varied))
    ]


def run_or_go_on(options: Options, console: "Console") -> None:
    """Run it; not again if it is finished; and if it was broken off, the rest of it.

    Raises UserError if another run is in its folder.
    """
    assert options.out is not None
    folder, told = Path(options.out), options.to_record()
    resume = None
    begun = [folder / name for name in (CHECKPOINT, BEST) if (folder / name).exists()]
    if (folder / HISTORY).exists():
        found = read_run(folder)["arguments"]
    elif begun:
        resume = load_checkpoint(begun[0], to_go_on=True)
        found = resume.record["arguments"]
    else:
        found = told
    if found != told:
        other = sorted(name for name in told if found.get(name) != told[name])
        raise UserError(
            f"{folder}: holds a run of other options ({', '.join(other)}); name another --out"
        )
    if resume is not None:
        options = resumed_options(resume, {"out": options.out})
    elif (folder / HISTORY).exists():
        console.print(f"{folder}: is finished", markup=False, highlight=False)
        return
    finetune(options, resume, console)
