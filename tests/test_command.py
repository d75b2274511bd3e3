"""Every error that a user can cause ends in one line and the right exit status."""

import io
import sys
from pathlib import Path

import pytest

import resnet_np
from resnet_np.__main__ import main as list_commands
from resnet_np.command import (
    Parser,
    at_least,
    counts,
    path_of,
    probability,
    rate,
    run_command,
    writable,
)
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
        (MemoryError("3 GiB"), 2, "error: out of memory (3 GiB); try"),
        (MemoryError(), 2, "error: out of memory; try"),
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


@pytest.mark.parametrize(
    ("kind", "good", "value", "bad", "message"),
    [
        (at_least(32), "32", 32, ["31", "x", "1e3", "", "-40"], "must be a whole number of 32 or"),
        (counts, "8,4", (8, 4), ["8,0", "8,", "a"], "must be a whole number of 1 or more, not "),
        (path_of("file"), "a b", "a b", [""], "is empty; name a file"),
        (rate, "1e-3", 0.001, ["-1", "nan", "inf", "fast"], "must be a number of 0 or more, not "),
        (probability, "0.5", 0.5, ["1", "-0.1", "nan", "half"], "must be a number from 0 to below"),
    ],
)
def test_types_of_arguments(kind, good, value, bad, message):
    parser = Parser(prog="python -m x")
    parser.add_argument("--n", type=kind)
    assert parser.parse_args(["--n", good]).n == value
    for text in bad:
        with pytest.raises(UserError, match="^argument --n: " + message):
            parser.parse_args([f"--n={text}"])


def test_a_file_without_a_place_is_refused_before_the_work(tmp_path):
    writable("--csv", tmp_path / "new.csv")
    writable("--csv", str(tmp_path / "new.csv"))
    with pytest.raises(UserError, match=r"^--csv .*x\.csv: there is no folder .*nowhere$"):
        writable("--csv", tmp_path / "nowhere" / "x.csv")
    with pytest.raises(UserError, match=r"^--csv .*: is a folder; name a file$"):
        writable("--csv", tmp_path)


def test_the_package_lists_its_commands(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["resnet_np"])
    assert run_command(list_commands) == 0
    shown = capsys.readouterr().out
    for path in Path(resnet_np.__file__).parent.glob("*.py"):
        if path.name != "__main__.py" and "run_command(main)" in path.read_text("utf-8"):
            assert f"python -m resnet_np.{path.stem} " in shown
    assert "resnet_np.weights     Look at weight files, convert, verify and download" in shown
    assert "resnet_np.finetune    Fine-tune a ResNet on images\n" in shown
    monkeypatch.setattr(sys, "argv", ["resnet_np", "finetune"])
    assert run_command(list_commands) == 2
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: finetune; see")


def test_a_terminal_that_lacks_letters_is_shown_escapes(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert run_command(lambda: print("caf\xe9 \udcff")) == 0
    assert screen.buffer.getvalue() == b"caf\\xe9 \\udcff\n"
