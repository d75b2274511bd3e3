"""The one exception whose text is meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input from a user: a file, an argument, a folder.

    The message is one line that names the file or argument, says what was wrong and what would be
    right. The front doors print it to stderr and leave with exit status 2.
    """
