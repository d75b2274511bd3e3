"""What all front doors share: one clear line for an error, and the right exit status."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from resnet_np.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors: one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run_command(main: Callable[[], None]) -> int:
    """Run a front door and return its exit status.

    0 when all went well; 2 after a UserError or a failure of the system (disk full, no permission,
    no memory), with one line on stderr; 130 after Ctrl-C. Errors of any other kind are mistakes in
    this program: they keep their traceback.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone (`... | head`): nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        return _fail(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 2)
    except MemoryError as error:
        return _fail(f"out of memory ({error}); try a smaller --batch-size or --image-size", 2)
    except KeyboardInterrupt as interruption:
        return _fail(str(interruption) or "interrupted", 130)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"error: {message}" if status == 2 else message, file=sys.stderr)
    return status
