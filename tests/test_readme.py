"""The README's program runs, and prints what it says; the commands in the documents exist."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+\.\d+", text)]
