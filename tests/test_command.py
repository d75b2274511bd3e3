"""Every error that a user can cause ends in one line and the right exit status."""

import pytest

from resnet_np.command import Parser, run_command
from resnet_np.errors import UserError


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a.png: broken"), 2, "error: a.png: broken"),
        (OSError(28, "No space left on device", "out.npz"), 2, "error: out.npz: No space left"),
        (OSError("odd"), 2, "error: odd"),
        (MemoryError("3 GiB"), 2, "error: out of memory (3 GiB)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("interrupted; go on with x"), 130, "interrupted; go on with x"),
    ],
)
def test_one_line_and_a_status(error, status, line, capsys):
    assert run_command(raising(error)) == status
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_all_well_is_0():
    assert run_command(lambda: None) == 0


def test_a_mistake_of_our_own_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_wrong_arguments_are_a_user_error():
    parser = Parser(prog="python -m x")
    parser.add_argument("--n", type=int)
    with pytest.raises(UserError, match=r"argument --n: invalid int value: 'a'; see python -m x"):
        parser.parse_args(["--n", "a"])
