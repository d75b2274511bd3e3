"""Each kernel compiles for the cards that it is meant for, on a machine that has none of them."""

import re
from pathlib import Path
from typing import Any

import nvrtc
import pytest
import tools

from resnet_np.kernels.gpu import compiling, elementwise

FILES = sorted(path.name for path in Path(compiling.__file__).parent.glob("*.cu"))
ARCHITECTURES = ("sm_75", "sm_80", "sm_90")


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    if nvrtc.library() is None:
        tools.missing("no NVRTC here: pip install nvidia-cuda-nvrtc-cu12")


def kernels_of(file: str) -> set[str]:
    text = compiling.source(file)
    return set(
        re.findall(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(', text)
    )


def test_there_are_kernels() -> None:
    assert FILES
    assert all(kernels_of(file) for file in FILES)


@pytest.mark.parametrize("dtype", compiling.NUMBERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_kernels_compile(file: str, architecture: str, dtype: str) -> None:
    code, said = nvrtc.compile_for(architecture, compiling.source(file), compiling.options(dtype))
    compiled = set(re.findall(r"Compiling entry function '(\w+)'", said))
    assert compiled == kernels_of(file)
    assert code[:4] == b"\x7fELF"
    assert "warning" not in said, said
    # Numbers that are in no register go to memory and back: such a kernel is badly cut.
    assert {int(n) for n in re.findall(r"(\d+) bytes (?:stack frame|spill)", said)} == {0}, said


def test_a_mistake_is_seen() -> None:
    text = compiling.source("elementwise.cu").replace("get(a[i])", "got(a[i])")
    with pytest.raises(RuntimeError, match=r'identifier "got" is undefined'):
        nvrtc.compile_for("sm_90", text, compiling.options("float32"))


def test_kernels_exist_for_numbers_that_networks_have() -> None:
    with pytest.raises(TypeError, match=r"GPU kernels exist for float32, .*, not for int64"):
        compiling.options("int64")


def test_a_kernel_is_looked_up_once(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    get_function = card.RawModule.get_function

    def noted(module: Any, name: str) -> Any:
        looked_up.append((name, module.options[-1]))
        return get_function(module, name)

    monkeypatch.setattr(card.RawModule, "get_function", noted)
    for x in (card.ones(3, "float32"), card.ones(3, "float64")) * 2:
        elementwise.add(elementwise.relu(x), x)
    kinds = "-DNUMBER=float", "-DNUMBER=double"
    assert looked_up == [(name, kind) for kind in kinds for name in ("relu", "add")]
    assert len(card.standin.record.launches) == 8
