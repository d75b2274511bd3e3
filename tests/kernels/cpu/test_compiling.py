"""The disk cache of compiled kernels: warm, stale, damaged, in wrong hands; Numba's layers."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numba
import pytest

from resnet_np.kernels.cpu import compiling

needs_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

ADD_UP = """
import numpy as np
from resnet_np.kernels.cpu import sgd_step
w, g = np.ones(9, np.float32), np.ones(9, np.float32)
sgd_step([w], [g], None, 0.5, 0.0, False, 0.0)
print(w.sum())
"""


def run(script: str, cache: Path, **settings: str) -> subprocess.CompletedProcess:
    """`script` in a process of its own, with its own cache folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | settings
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )


@needs_jit
def test_the_second_process_does_not_compile(tmp_path: Path) -> None:
    first, second = run(ADD_UP, tmp_path), run(ADD_UP, tmp_path)
    assert first.stdout == second.stdout == "4.5\n"
    assert first.stderr.startswith("resnet_np: compiling for this processor")
    assert str(tmp_path) in first.stderr
    assert len(first.stderr.splitlines()) == 1
    assert second.stderr == ""


@needs_jit
def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    run(ADD_UP, tmp_path)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
    again = run(ADD_UP, tmp_path)
    assert again.stdout == "4.5\n"
    assert "compiling" in again.stderr
    assert run(ADD_UP, tmp_path).stderr == ""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The module without what it remembers, and an empty folder for the cache."""

    def forget() -> None:
        for remembered in (compiling.folder, compiling.source_stamp, compiling._temporary):
            remembered.cache_clear()

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def test_any_changed_source_changes_the_folder(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = fresh / "sources"
    sources.mkdir()
    (sources / "a.py").write_text("x = 1\n")
    (sources / "b.py").write_text("y = 1\n")
    monkeypatch.setattr(compiling, "_here", sources)
    seen = set()
    for name, text in [("a.py", "x = 1\n"), ("b.py", "y = 2\n"), ("c.py", "")]:
        (sources / name).write_text(text)
        compiling.source_stamp.cache_clear()
        compiling.folder.cache_clear()
        assert compiling.folder().parent == fresh / "cache"
        seen.add(compiling.folder())
    assert len(seen) == 3


def test_the_folder_is_closed_to_others(fresh: Path) -> None:
    assert stat.S_IMODE(compiling.folder().stat().st_mode) == 0o700


def test_a_folder_that_others_can_write_into_is_not_used(fresh: Path) -> None:
    mine = compiling.folder()
    mine.chmod(0o777)
    compiling.folder.cache_clear()
    other = compiling.folder()
    assert other != mine
    assert stat.S_IMODE(other.stat().st_mode) == 0o700


def test_a_place_that_cannot_be_written_is_not_used(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(fresh / "file"))
    assert compiling.folder().is_dir()
    assert fresh not in compiling.folder().parents


TWO_THREADS = """
import threading
import numba, numpy as np
from resnet_np.kernels.cpu import sgd_step
def work():
    for _ in range(50):
        w, g = np.ones(200_000, np.float32), np.ones(200_000, np.float32)
        sgd_step([w], [g], None, 0.5, 0.0, False, 0.0)
        assert (w == 0.5).all()
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(numba.threading_layer())
"""


@needs_jit
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread only")
def test_two_threads_on_numbas_simplest_pool(tmp_path: Path) -> None:
    answer = run(TWO_THREADS, tmp_path, NUMBA_THREADING_LAYER="workqueue")
    assert answer.stdout == "workqueue\n"


def test_without_compilation_the_kernels_are_python(tmp_path: Path) -> None:
    script = ADD_UP + "from resnet_np.kernels.cpu.conv import _place_pixels as f\nprint(type(f))"
    answer = run(script, tmp_path, NUMBA_DISABLE_JIT="1")
    assert answer.stdout.splitlines() == ["4.5", "<class 'function'>"]
    assert answer.stderr == ""
