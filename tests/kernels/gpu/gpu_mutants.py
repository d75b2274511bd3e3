"""Mistakes made on purpose, which gpu_mutants.txt lists, and whether the tests notice them.

A mistake is made in a copy of the sources, and the tests that have to notice it run there, in a
process of their own. That they fail is not enough: they must have seen a wrong result, or said what
the list says.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[3]
SOURCES = ("kernels", "resnet_np", "weights", "tests", "setup.cfg", "pyproject.toml")
WRONG_RESULT = r"AssertionError|assert |DID NOT RAISE"
SECONDS = 120  # for one mistake's tests: it may be a loop that does not end


class Mutant(NamedTuple):
    check: str
    file: str
    what: str
    old: str
    new: str
    tests: str
    says: str

    @property
    def part(self) -> str:
        """The kernel or the function that is broken."""
        return self.what.split(":")[0]


class Outcome(NamedTuple):
    """How tests ended."""

    ran: int
    skipped: int
    failed: str = ""  # the first that did
    error: str = ""  # in a few words
    said: str = ""  # all of it


class MissingToolError(Exception):
    """The tests need a tool that is not here."""


# --- the list ------------------------------------------------------------------------------------


def read_mutants() -> list[Mutant]:
    """All that gpu_mutants.txt tells of."""
    text = Path(__file__).with_name("gpu_mutants.txt").read_text("utf-8")
    _, *sections = re.split(r"^(===|---) (.*)\n", text, flags=re.MULTILINE)
    found, check = [], ""
    for mark, name, body in zip(sections[::3], sections[1::3], sections[2::3], strict=True):
        if mark == "===":
            check = name
        found += [_mutant(check, name, part) for part in body.strip().split("\n\n") if part]
    return found


def _mutant(check: str, file: str, paragraph: str) -> Mutant:
    what, *lines = paragraph.splitlines()
    old, new, tests, says = (
        "\n".join(line[2:] for line in lines if line[0] == mark) for mark in "-+?!"
    )
    return Mutant(check, file, what, old, new, tests, says or WRONG_RESULT)


def broken(mutant: Mutant, folder: Path = ROOT) -> str:
    """The file's text with the mistake in it."""
    text = (folder / mutant.file).read_text("utf-8")
    times = text.count(mutant.old)
    assert times == 1, f"{mutant.file}: {mutant.what}: the text is there {times} times"
    return text.replace(mutant.old, mutant.new)


# --- the tests -----------------------------------------------------------------------------------


def is_noticed(mutant: Mutant, compiled: Path) -> tuple[bool, str]:
    """Whether the tests notice it, and the first that does, or what they do instead.

    compiled : a folder for what is compiled for the emulator, shared by all mutants

    Raises MissingToolError where none of the tests can run.
    """
    with copy_of_sources(compiled) as folder:
        (folder / mutant.file).write_text(broken(mutant, folder), "utf-8")
        path, *selected = shlex.split(mutant.tests)
        outcome = run_tests(folder, f"tests/{path}", *selected, "-x")
    if not outcome.failed and outcome.skipped == outcome.ran:
        raise MissingToolError(f"tests/{mutant.tests}: all {outcome.ran} are skipped here")
    if not outcome.failed:
        return False, f"{outcome.ran} tests pass"
    seen = outcome.error if mutant.says == WRONG_RESULT else outcome.said
    if not re.search(mutant.says, seen):
        return False, f"{outcome.failed} fails for another reason: {outcome.error}"
    return True, outcome.failed


@contextmanager
def copy_of_sources(compiled: Path) -> Iterator[Path]:
    """A folder with all that tests need; they find it by themselves when they run there."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for source in SOURCES:
            if (ROOT / source).is_dir():
                leave = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, folder / source, ignore=leave)
            else:
                shutil.copy(ROOT / source, folder)
        (folder / ".pytest_cache").symlink_to(compiled)
        yield folder


def run_tests(folder: Path, *arguments: str, seconds: int = SECONDS) -> Outcome:
    """Run tests of a copy of the sources. Those that need a card are left out, and no others."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not gpu", f"--junit-xml={report}"]
    try:
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(0, 0, "pytest", f"not at an end after {seconds} s")
    if not report.exists():  # the process did not live to write it
        test = re.search(r"in (test_\w+)", done.stderr)
        said = done.stderr or done.stdout
        return Outcome(0, 0, test[1] if test else "pytest", said.strip().split("\n")[0], said)
    suite = ElementTree.parse(report).getroot()[0]
    ran, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    for case in suite.iter("testcase"):
        for failure in (*case.iter("failure"), *case.iter("error")):
            error, said = failure.attrib["message"], failure.text or ""
            return Outcome(ran, skipped, case.attrib["name"], error, said)
    if done.returncode:
        return Outcome(ran, skipped, "pytest", done.stdout + done.stderr)
    return Outcome(ran, skipped)
