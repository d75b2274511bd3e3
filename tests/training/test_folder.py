"""Where a run's results go."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from resnet_np.training.folder import result_folder

AT_ONCE = 8


def test_runs_that_begin_at_once_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin, end = Barrier(AT_ONCE), Barrier(AT_ONCE)

    def run(number: int) -> str:
        begin.wait(10)
        with result_folder(None, "cats") as folder:
            end.wait(10)
            if number == 0:
                (folder / "history.json").write_text("{}")
            return folder.name

    with ThreadPoolExecutor(AT_ONCE) as pool:
        names = sorted(pool.map(run, range(AT_ONCE)))
    assert names == [f"cats-{number}" for number in range(1, AT_ONCE + 1)]
    assert len(list((tmp_path / "runs").iterdir())) == 1  # those without results are gone
