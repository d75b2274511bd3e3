"""What every command owes to a user whose input is bad."""

import subprocess


def assert_refused(result: subprocess.CompletedProcess, *parts: object) -> None:
    """Exit status 2 and one line on stderr that holds all the parts."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert str(part) in result.stderr
