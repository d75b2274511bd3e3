"""The README's program runs, and prints what it says; the commands in the documents exist."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_np import finetune
from resnet_np.arguments import read_arguments
from resnet_np.training.options import Options
from resnet_np.training.setup import check_options
from resnet_np.weights import registry

ROOT = Path(__file__).parents[1]


def test_the_dozen_lines_print_what_the_readme_shows() -> None:
    readme = (ROOT / "README.md").read_text()
    program, shown = re.search(  # type: ignore[union-attr]
        r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", readme, re.DOTALL
    ).groups()
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    ours, theirs = numbers(printed), numbers(shown)
    assert re.sub(r"[\d.]+", "", printed) == re.sub(r"[\d.]+", "", shown)
    # Another processor rounds another way, and five steps of training make that visible.
    assert all(abs(a - b) <= 0.03 for a, b in zip(ours, theirs, strict=True))


def commands(document: str) -> list[str]:
    """What stands behind `python -m resnet_np.` in a document's blocks of code."""
    found, inside = [], False
    for line in (ROOT / document).read_text().splitlines():
        if line.startswith("```"):
            inside = not inside
        elif (inside or line.startswith("    ")) and "python -m resnet_np." in line:
            found.append(line.partition("python -m resnet_np.")[2])
    return found


@pytest.mark.parametrize("document", ["README.md", "docs/weights.md"])
def test_every_command_has_the_options_that_are_shown(document: str) -> None:
    shown = [shlex.split(command, comments=True) for command in commands(document)]
    assert len(shown) > 5
    for name, *arguments in shown:
        folder = "weights.__main__" if name == "weights" else name
        parser = importlib.import_module(f"resnet_np.{folder}").make_parser()
        parser.parse_args(arguments)  # raises UserError
        for word in arguments:
            assert "imagenet" not in word or word in registry.names()


def test_the_recipe_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "photos.toml").write_text(text)
    words = ["--recipe", str(tmp_path / "photos.toml")]
    options = Options(**read_arguments(finetune.make_parser(), words))
    check_options(options)
    assert [phase.epochs for phase in options.by_phase()] == [5, 10]


# --- what only a GPU can show --------------------------------------------------------------------

NOT_YET = "not yet run on a GPU"
MEASURED_ON_GPUS = [file.stem for file in (ROOT / "benchmarks" / "results").glob("*-gpu.json")]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "examples/README.md"]
DOCUMENTS += [f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))]
ABOUT_A_GPU = re.compile(r"(?i)\b(GPU|CUDA|CuPy|cuBLAS|NVIDIA|tensor cores?|tf32|cards?)\b")
CLAIM = re.compile(
    r"\d (times|%|images/s|images a second|[TG]FLOP|[TG]B/s|GiB|ms\b|milliseconds)|"
    r"\b(as fast as|faster than|fastest|(two|three|five|ten|many) times)\b"
)


def passages(text: str) -> list[str]:
    """Rows of tables, and paragraphs, each as one line."""
    return [part.replace("\n", " ") for part in re.split(r"\n(?=\||\s*\n|[-*] )", text)]


def test_the_status_table_says_what_no_gpu_has_shown() -> None:
    rows = [row for row in (ROOT / "README.md").read_text().splitlines() if row.startswith("|")]
    (about_gpus,) = [row for row in rows if row.startswith("| GPU (`--device gpu`, CuPy)")]
    if MEASURED_ON_GPUS:
        assert not [row for row in rows if NOT_YET in row]
        assert any(name in about_gpus for name in MEASURED_ON_GPUS), "the row names its figures"
    else:
        assert [row for row in rows if NOT_YET in row] == [about_gpus]
        assert about_gpus.endswith(f" | {NOT_YET} |")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_claims_what_no_gpu_has_shown(document: str) -> None:
    """No figure of speed or memory stands where a GPU is spoken of."""
    if MEASURED_ON_GPUS:
        pytest.skip("a GPU has: figures may be told")
    text = (ROOT / document).read_text()
    assert claims(text) == []


def claims(text: str) -> list[str]:
    return [p for p in passages(text) if ABOUT_A_GPU.search(p) and CLAIM.search(p)]


def test_a_claim_is_found() -> None:
    said = "# On a GPU\n\nBlue.\n\n| GPU | 3 |\n| card | 1.5 times as\nfast |\n| CPU | 2 times |\n"
    assert claims(said) == ["| card | 1.5 times as fast |"]


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+\.\d+", text)]
