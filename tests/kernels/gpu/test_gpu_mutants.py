"""Mistakes made on purpose: the list of them, and one for each check, which must be noticed.

benchmarks/acceptance/20_checked_without_a_card.py makes them all.
"""

from itertools import groupby
from pathlib import Path

import pytest
import tools
from gpu_mutants import ROOT, MissingToolError, Mutant, broken, is_noticed, read_mutants
from test_gpu_compiling import kernels_of

from resnet_np.kernels.gpu import compiling

MUTANTS = read_mutants()
CHECKS = [(check, next(some)) for check, some in groupby(MUTANTS, lambda mutant: mutant.check)]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}-{m.what}")
def test_the_list_fits_the_sources(mutant: Mutant) -> None:
    assert mutant.old != mutant.new
    assert broken(mutant)
    assert (ROOT / "tests" / mutant.tests.split()[0]).is_file()


def test_each_kernel_has_a_mistake() -> None:
    for file in Path(compiling.__file__).parent.glob("*.cu"):
        parts = {mutant.part for mutant in MUTANTS if mutant.file == f"kernels/gpu/{file.name}"}
        assert kernels_of(file.name) <= parts


@pytest.mark.parametrize(("check", "mutant"), CHECKS, ids=[check for check, _ in CHECKS])
def test_each_check_notices_a_mistake(check: str, mutant: Mutant, tmp_path: Path) -> None:
    try:
        passed, seen = is_noticed(mutant, tmp_path)
    except MissingToolError as reason:
        tools.missing(str(reason))
    assert passed, f"{mutant.file}: {mutant.what}: {seen}"
