"""The one exception whose text is meant for the person at the keyboard."""

from collections.abc import Sequence


def some(things: Sequence[str], between: str = ", ") -> str:
    """The first few of many, and how many more there are, for a message of one line."""
    shown = between.join(things[:4])
    return shown if len(things) <= 4 else f"{shown} and {len(things) - 4} more"


class UserError(ValueError):
    """Bad input from a user: a file, an argument, a folder.

    The message is one line that names the file or argument, says what was wrong and what would be
    right. The front doors print it to stderr and leave with exit status 2.

    details : everything that was found wrong, one entry each, where the message names only the
        first few of many
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details: tuple[str, ...] = tuple(details)
