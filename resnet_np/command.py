"""What all front doors share: types of arguments, one line for an error, the right exit status."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from resnet_np.errors import UserError

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors: one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def at_least(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of `least` or more."""

    def convert(text: str) -> int:
        number = _number(int, text)
        if number is None or number < least:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of {least} or more, not {text!r}"
            )
        return number

    return convert


count = at_least(1)
seed = at_least(0)


def counts(text: str) -> tuple[int, ...]:
    """The type of an argument that is a list of counts, such as 256,128."""
    return tuple(count(part) for part in text.split(","))


def rate(text: str) -> float:
    """The type of an argument that is a finite number of 0 or more."""
    number = _number(float, text)
    if number is None or not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of 0 or more, not {text!r}")
    return number


def probability(text: str) -> float:
    """The type of an argument that is a probability below 1."""
    number = _number(float, text)
    if number is None or not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to below 1, not {text!r}")
    return number


def more_than_0(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    number = _number(float, text)
    if number is None or not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def path_of(what: str) -> Callable[[str], str]:
    """The type of an argument that names something, such as a file: any text but the empty one."""

    def convert(text: str) -> str:
        if not text:
            raise argparse.ArgumentTypeError(f"is empty; name a {what}")
        return text

    return convert


def writable(option: str, path: str | Path) -> None:
    """Raise UserError, before the work, if the file of this option has no place to be written to"""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file")


def _number(kind: type[Number], text: str) -> Number | None:
    """The text as a number of this kind, or None if it is none."""
    try:
        return kind(text)
    except ValueError:
        return None


def run_command(main: Callable[[], None]) -> int:
    """Run a front door and return its exit status.

    0 when all went well; 2 after a UserError or a failure of the system (disk full, no permission,
    no memory), with one line on stderr; 130 after Ctrl-C. Errors of any other kind are mistakes in
    this program: they keep their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal lacks letters for is
            stream.reconfigure(errors="backslashreplace")  # shown with escapes
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone (`... | head`): nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as end:  # rich's way of ending then
        if not isinstance(end.__context__, BrokenPipeError):
            raise
    except UserError as error:
        return _fail(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 2)
    except MemoryError as error:
        wanted = f" ({error})" if str(error) else ""
        return _fail(f"out of memory{wanted}; try a smaller --batch-size or --image-size", 2)
    except KeyboardInterrupt as interruption:
        return _fail(str(interruption) or "interrupted", 130)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"error: {message}" if status == 2 else message, file=sys.stderr)
    return status
