"""On a fresh clone and a fresh environment, the README's two commands work, and how long they take.

    python benchmarks/acceptance/01_fresh_clone.py

The main job may take 3 minutes with its install (of packages that pip has in its cache), the tests
15 minutes, on 2 cores. Without RESNET_NP_TEST_DATA the tests that want real data skip.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = (("## Fine-tune something", 3), ("## Run the tests", 15))  # heading, minutes allowed


def main() -> int:
    in_time = True
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "resnet_np"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        for heading, allowed in COMMANDS:
            command = first_command(clone / "README.md", heading)
            print(f"$ {command}", flush=True)
            began = time.monotonic()
            subprocess.run(command, shell=True, cwd=clone, check=True)
            minutes = (time.monotonic() - began) / 60
            print(f"--- {minutes:.1f} minutes (allowed: {allowed})", flush=True)
            in_time = in_time and minutes <= allowed
    return 0 if in_time else 1


def first_command(readme: Path, heading: str) -> str:
    """The first code block behind a heading."""
    section = readme.read_text().split(f"\n{heading}\n", 1)[1]
    found = re.search(r"```\n(.*?)\n```", section, re.DOTALL)
    assert found is not None, f"no command behind {heading!r}"
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
