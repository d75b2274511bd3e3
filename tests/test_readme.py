"""The README's program runs, and prints what the README says it prints."""

import re
import subprocess
import sys
from pathlib import Path

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


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+\.\d+", text)]
