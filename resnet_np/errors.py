"""The one exception whose text is meant for the person at the keyboard."""

from collections.abc import Sequence


def some(things: Sequence[str], between: str = ", ") -> str:
    """The first few of many, and how many more there are, for a message of one line."""
    shown = between.join(things[:4])
    return shown if len(things) <= 4 else f"{shown} and {len(things) - 4} more"


def one_line(text: str, longest: int = 1000) -> str:
    """A text as one line that can be shown anywhere, whatever a stranger's file put into it.

    What would break the line or steer a terminal appears as its escape; of a longer text the
    middle is left out.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text


class UserError(ValueError):
    """Bad input from a user: a file, an argument, a folder.

    The message is one line that names the file or argument, says what was wrong and what would be
    right. The front doors print it to stderr and leave with exit status 2.

    details : everything that was found wrong, one entry each, where the message names only the
        first few of many
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(one_line(message))
        self.details = tuple(map(one_line, details))


def counted(count: int, what: str) -> str:
    """So many of something, in words: 1 epoch, 2 epochs."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
