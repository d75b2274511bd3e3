"""The report of a run: one HTML file that shows everything, and needs nothing else.

Pictures are inside it, nothing is fetched, and no script runs. `report.html.j2` is what it looks
like; here is what it says.
"""

import base64
import io
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.autograd import softmax
from resnet_np.data.doctor import KINDS, Diagnosis
from resnet_np.data.loader import Images, name_of
from resnet_np.errors import one_line
from resnet_np.training.metrics import Figures
from resnet_np.training.options import Options
from resnet_np.training.plots import to_svg
from resnet_np.training.recipe import NAME as RECIPE
from resnet_np.training.recipe import recipe_text
from resnet_np.weights.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISTAKES = 12  # that are shown
PIXELS = 160  # the longer side of their pictures
SHOWN = 5  # findings of one kind


@dataclass(frozen=True)
class Outcome:
    """What a run has come to.

    checkpoint: the name of the one with the weights that gave the logits.
    logits: [N, K] of each split. weights: where the tensors of the weight file went.
    diagnosis: of the images, if the doctor has looked. warnings: of what it was told (`lint.py`).
    seconds: that the run took, since it was begun or resumed.
    """

    options: Options
    checkpoint: str
    logits: Mapping[str, np.ndarray]
    splits: Mapping[str, Images]
    history: list[dict[str, Any]]
    weights: dict[str, Any] | None
    diagnosis: Diagnosis | None
    warnings: Sequence[str]
    seconds: float


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, and how sure the network was of it."""

    picture: str  # as a data: address
    name: str
    label: str
    answer: str
    probability: float


def confident_mistakes(logits: np.ndarray, images: Images) -> list[Mistake]:
    """The wrong answers that the network was most sure of, the surest first."""
    probabilities = softmax(logits.astype(np.float64))
    answers, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != images.labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    return [
        Mistake(
            _picture(images.whole(int(i))),
            one_line(name_of(images, int(i))),
            images.classes[images.labels[i]],
            images.classes[answers[i]],
            float(sure[i]),
        )
        for i in worst
    ]


def _picture(pixels: np.ndarray) -> str:
    """uint8 [h, w, 3], made smaller, as a data: address."""
    from PIL import Image

    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((PIXELS, PIXELS))
    image.save(file, format="jpeg", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def write_page(
    path: Path,
    outcome: Outcome,
    figures: Mapping[str, Figures],
    curves: "Figure",
    confusion: "Figure",
) -> None:
    """Write the report, whole or not at all. Raises UserError.

    figures : of each split's logits. curves, confusion : the pictures
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    splits, logits, history = outcome.splits, outcome.logits, outcome.history
    last = "test" if "test" in splits else "validation"
    images, classes = splits[last], splits["train"].classes
    environment = Environment(
        loader=PackageLoader("resnet_np.training", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("report.html.j2").render(
        title=path.parent.resolve().name,
        last=last,
        figures=figures,
        rows=_rows([*figures.values()]),
        classes=classes,
        curves=to_svg(curves),
        confusion=to_svg(confusion),
        mistakes=confident_mistakes(logits[last], images),
        checkpoint=outcome.checkpoint,
        weights=_origin(outcome.options),
        warnings=outcome.warnings,
        diagnosis=outcome.diagnosis,
        findings=_findings(outcome.diagnosis),
        recipe=recipe_text(outcome.options),
        command=f"python -m resnet_np.finetune --recipe {shlex.quote(str(path.parent / RECIPE))}",
        facts=_facts(history, outcome.options.device, outcome.seconds),
    )
    with atomic_file(path) as file:
        file.write(text.encode(errors="replace"))


def _origin(options: Options) -> str:
    """What the network began with."""
    if options.weights is not None:
        return options.weights
    return "the embedded weights" if options.model is None else "random weights"


def _rows(figures: Sequence[Figures]) -> list[tuple[str, list[str]]]:
    """The table of figures: a name, and the value of each split."""

    def row(name: str, values: list[float | None]) -> tuple[str, list[str]]:
        return name, ["" if value is None else f"{value:.4f}" for value in values]

    return [
        ("images", [str(f.images) for f in figures]),
        row("loss", [f.loss for f in figures]),
        row("accuracy", [f.accuracy for f in figures]),
        *(row(f"among the {k} likeliest", [f.top[k] for f in figures]) for k in figures[0].top),
        row("precision", [f.macro_precision for f in figures]),
        row("recall", [f.macro_recall for f in figures]),
        row("F1", [f.macro_f1 for f in figures]),
        row("F1, by images", [f.weighted_f1 for f in figures]),
        row("ROC-AUC", [f.macro_roc_auc for f in figures]),
        row("calibration error", [f.calibration_error for f in figures]),
    ]


def _findings(diagnosis: Diagnosis | None) -> list[tuple[int, str, str, list[str]]]:
    """For each kind that was found: how often, what it is, what to do, the first few."""
    if diagnosis is None:
        return []
    rows = []
    for kind, (title, advice) in KINDS.items():
        found = [f for f in diagnosis.findings if f.kind == kind]
        if found:
            lines = [one_line(f"{' = '.join(f.paths)} {f.detail}".strip()) for f in found[:SHOWN]]
            rows.append((len(found), title, advice, lines))
    return rows


def _facts(history: Sequence[dict[str, Any]], device: str, seconds: float) -> dict[str, str]:
    """Time, memory, and what it ran on."""
    import numba

    trained = sum(entry["seconds"] for entry in history)
    waited = sum(entry.get("waiting", 0.0) for entry in history)
    facts = {
        "epochs": f"{len(history)}",
        "training": f"{trained:.1f} s, {waited / max(trained, 1e-9):.0%} of it waiting for images",
        "the whole run": f"{seconds:.1f} s, since it was begun or resumed",
    }
    memory = peak_memory()
    if memory is not None:
        facts["memory at most"] = f"{memory / 2**20:.0f} MiB"
    return facts | {
        "device": device,
        "computer": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Numba {numba.__version__}",
    }


def peak_memory() -> int | None:
    """Bytes of memory that this process has had at most; None where nobody tells (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
