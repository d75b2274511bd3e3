"""Has every command a help that says all, and does every failure end in one clear line?

    python benchmarks/acceptance/28_every_command.py [--only COMMAND]

Each command of the package and each program in examples/ is asked for `--help`: exit status 0, a
usage, words on every option (more than its default), nothing on stderr.

Then every failure of `_failures.py` is typed in a folder of small real things (`_scratch.py`):
handwritten digits, weights, a run of one epoch, and spoilt copies of them. Each must end with exit
status 2 and a single line on stderr, `error: ...`, that names the file or the argument and says
what was wrong or would be right. In the end every file in that folder must have the bytes that it
had, and there must be no other file. (Spoilt weight files by the thousand: 12_fuzzing.py; servers
that fail: 13_download.py; runs that are killed: 27_killed_and_resumed.py.)

Where CuPy finds a GPU, the failures of having none are left out. Exits with 1 if anything was
missed. Eight minutes on two busy cores.
"""

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from _failures import FAILURES, ON_A_FULL_DISK, ON_A_GPU
from _scratch import make_material
from _showing import show

import resnet_np
from resnet_np.device import require_gpu
from resnet_np.errors import UserError, one_line
from resnet_np.training.setup import EMBEDDED

PACKAGE = Path(resnet_np.__file__).parent
REPOSITORY = Path(__file__).parents[2]
MAIN = 'if __name__ == "__main__":'
SMALL_DISK = ["sh", "-c", 'ulimit -f 2048; exec "$@"', "sh"]  # no file above a megabyte, or two
ENTRY = re.compile(r"^  (\S.*(?:\n {3,}\S.*)*)", re.MULTILINE)  # of a help: a name, and words on it

Answer = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Typed:
    """What is typed, and what the line must say that it ends in. before: a shell to run it in."""

    what: str
    command: str
    words: tuple[str, ...]
    parts: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.command}, {self.what}: {one_line(shlex.join(self.words))}"

    def run(self, folder: Path) -> Answer:
        program = [str(REPOSITORY / self.command)]
        if not self.command.endswith(".py"):
            program = ["-m", f"resnet_np.{self.command}"]
        return subprocess.run(
            [*self.before, sys.executable, *program, *self.words],
            cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(folder / "temporary"), "COLUMNS": "100"},
        )  # fmt: skip


# --- help ----------------------------------------------------------------------------------------


def find_commands() -> list[str]:
    """The modules that can be run, without `resnet_np.`; and the programs of examples/."""
    modules = [path.stem for path in sorted(PACKAGE.glob("*.py")) if MAIN in path.read_text()]
    programs = [
        str(path.relative_to(REPOSITORY))
        for path in sorted((REPOSITORY / "examples").rglob("*.py"))
        if MAIN in path.read_text()
    ]
    return [*modules, "weights", *programs]


def ask_for_help(command: str, folder: Path) -> list[tuple[Typed, Answer]]:
    """Its help, and that of each command within it."""
    asked = Typed("help", command, ("--help",))
    answer = asked.run(folder)
    inner = re.findall(r"^    ([a-z]+) ", answer.stdout, re.MULTILINE)  # under COMMAND
    within = [Typed("help", command, (name, "--help")) for name in inner]
    return [(asked, answer), *((typed, typed.run(folder)) for typed in within)]


def judge_help(typed: Typed, answer: Answer) -> bool:
    """Show how it is."""
    faults = "; ".join(faults_of_help(answer))
    wanted = "status 0, a usage, words on every option"
    return show(str(typed), faults or "as asked", wanted, not faults)


def faults_of_help(result: Answer) -> Iterator[str]:
    if result.returncode != 0:
        yield f"status {result.returncode}"
    if not result.stdout.startswith("usage: "):
        yield "no usage"
    if result.stderr:
        yield f"on stderr: {result.stderr.strip().splitlines()[-1]}"
    for entry in ENTRY.findall(result.stdout):
        name, *words = re.split(r" {2,}|\n +", entry, maxsplit=1)
        if not words or words[0].startswith("default:"):
            yield f"no words on {name}" + (f" but {words[0]!r}" if words else "")


# --- failures ------------------------------------------------------------------------------------


def find_failures() -> Iterator[Typed]:
    tables = [(FAILURES, ()), (ON_A_FULL_DISK, tuple(SMALL_DISK))]
    if not has_gpu():
        tables.append((ON_A_GPU, ()))
    for table, before in tables:
        for command, failures in table.items():
            for what, words, *parts in failures:
                typed = shlex.split(words.format(embedded=shlex.quote(str(EMBEDDED))))
                yield Typed(what, command, tuple(typed), tuple(parts), before)


def has_gpu() -> bool:
    try:
        require_gpu()
    except UserError:
        return False
    return True


def judge(typed: Typed, result: Answer) -> bool:
    """Show how it ended."""
    lines = result.stderr.splitlines()
    last = lines[-1] if lines else "nothing"
    faults = [f"status {result.returncode}"] if result.returncode != 2 else []
    faults += [f"{len(lines)} lines"] if len(lines) != 1 else []
    faults += ["no error"] if not last.startswith("error: ") else []
    faults += [f"without {part!r}" for part in typed.parts if part not in last]
    said = f"{'; '.join(faults)}: {last}" if faults else last
    return show(str(typed), said, "; ".join(("error", *typed.parts)), not faults)


def contents(folder: Path) -> dict[str, str]:
    """A hash of each file below the folder, and the folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def compare(before: dict[str, str], after: dict[str, str]) -> bool:
    """Show whether anything was lost or left behind."""
    good = True
    for what, names in {
        "files that were lost": before.keys() - after.keys(),
        "files that were changed": {
            n for n in before.keys() & after.keys() if before[n] != after[n]
        },
        "files that were left behind": after.keys() - before.keys(),
    }.items():
        measured = ", ".join(sorted(names)) or "none"
        good &= show(what, f"{measured} of {len(before)}", "none", not names)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Every command's help, and how each one fails.")
    parser.add_argument("--only", metavar="COMMAND", help="such as finetune; default: all")
    only = parser.parse_args().only
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(scratch)
        make_material(folder)
        before = contents(folder)
        commands = [name for name in find_commands() if only in (None, name)]
        asked = pool.map(lambda name: ask_for_help(name, folder), commands)
        answers = [judge_help(*answer) for one in asked for answer in one]
        failures = [typed for typed in find_failures() if only in (None, typed.command)]
        ends = pool.map(lambda typed: typed.run(folder), failures)
        judged = [judge(typed, result) for typed, result in zip(failures, ends, strict=True)]
        kept = compare(before, contents(folder))
    print(
        f"{sum(answers)} of {len(answers)} helps say all, {sum(judged)} of {len(judged)} failures "
        f"end in one clear line, {'nothing' if kept else 'something'} was lost or left behind; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 0 if kept and all(answers) and all(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
