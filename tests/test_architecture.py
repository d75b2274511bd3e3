"""The house: stairs that only go down, a light front step, and few enough lines to read."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

# Each room and the rooms that it may import from: those below it.
GROUND = {"errors", "kernels"}
LAYERS = GROUND | {"device", "autograd", "nn"}
WORK = LAYERS | {"plan", "weights", "data", "models", "optim"}
STAIRS: dict[str, set[str]] = {
    "errors": set(),
    "kernels": {"errors"},
    "weights": {"errors"},
    "device": GROUND,
    "autograd": GROUND,
    "nn": GROUND | {"device", "autograd"},
    "optim": LAYERS,
    "data": {"errors", "weights", "kernels"},
    "plan": LAYERS,
    "models": LAYERS | {"plan", "weights"},
    "training": WORK,
    "command": {"errors"},
}
FRONT_DOORS = (
    "finetune", "predict", "gradcheck", "augment", "doctor", "evaluate", "runs", "lr_find", "sweep",
)  # fmt: skip
STAIRS["arguments"] = WORK | {"training", "command"}
STAIRS |= {door: WORK | {"training", "command", "arguments"} for door in FRONT_DOORS}
STAIRS["__main__"] = {"command"}  # it lists the others, and imports none
STAIRS["weights.__main__"] = {"errors", "weights", "command"}  # the one front door in a folder

HEAVY = ("numba", "sklearn", "h5py", "matplotlib", "cupy", "rich", "PIL", "torch", "scipy", "onnx")
OTHERS = ("torch", "torchvision", "keras", "tensorflow", "timm", "onnxruntime", "openvino")


def product_files() -> list[tuple[str, Path]]:
    """(room, file) of everything that is installed."""
    files = [
        (f"{folder}.__main__" if file.name == "__main__.py" else folder, file)
        for folder in ("kernels", "weights")
        for file in sorted((ROOT / folder).rglob("*.py"))
    ]
    for file in sorted((ROOT / "resnet_np").rglob("*.py")):
        room = file.relative_to(ROOT / "resnet_np").parts[0].removesuffix(".py")
        if room != "__init__":  # the package's own face, which shows what the rooms have
            files.append((room, file))
    return files


def imported(file: Path) -> Iterator[str]:
    """Dotted names of what a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("room", "file"), product_files(), ids=lambda v: v.name if isinstance(v, Path) else v
)
def test_stairs_go_down(room: str, file: Path) -> None:
    assert room in STAIRS, f"{room} has no place in the house yet: give it one in STAIRS"
    for name in imported(file):
        top, _, rest = name.partition(".")
        assert top not in OTHERS, f"{file} imports {name}: the product stands on its own"
        if top == "resnet_np":
            target = rest.partition(".")[0]
            assert target in STAIRS[room] | {room}, f"{file} imports {name}"


def test_the_stairs_have_no_way_round() -> None:
    """If a may import b and b may import c, then c is below a, too: never the other way."""
    for room, below in STAIRS.items():
        for lower in below:
            assert room not in STAIRS[lower], f"{room} and {lower} import each other"


def test_nobody_imports_a_bare_kernels_or_weights() -> None:
    folders = ("resnet_np", "kernels", "weights", "tests", "benchmarks", "examples")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    for file in files:
        for name in imported(file):
            assert name.partition(".")[0] not in ("kernels", "weights"), f"{file} imports {name}"


def test_import_is_light() -> None:
    script = f"import sys, resnet_np; print([m for m in {HEAVY} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
    assert shown.stderr == ""


# --- how much there is to read -------------------------------------------------------------------


def load_counter() -> ModuleType:
    path = ROOT / "benchmarks" / "acceptance" / "07_reading.py"
    spec = importlib.util.spec_from_file_location("reading", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_few_enough_lines_to_read() -> None:
    reading = load_counter()
    for parts, limit in reading.LIMITS.items():
        counted = reading.count(*parts)
        assert len(counted) >= len(parts)
        assert sum(counted.values()) <= limit, counted


SAMPLE = '''\
"""Two lines of
docstring."""

# a comment
x = 1  # counted


def f(
    a,
):
    """Docstring."""
    text = """two
    lines"""
    return a, text
'''


def test_what_counts_as_a_line(tmp_path: Path) -> None:
    reading = load_counter()
    file = tmp_path / "sample.py"
    file.write_text(SAMPLE)
    assert reading.code_lines(file) == 1 + 3 + 2 + 1
    file.write_text("x = 1  # " + "x" * 91 + "\n")
    assert reading.code_lines(file) == 1
    file.write_text("x = 1  # " + "x" * 92 + "\n")
    with pytest.raises(ValueError, match=r"sample.py:1 has 101 columns"):
        reading.code_lines(file)


def test_the_reading_order_of_weights_names_every_module_once() -> None:
    modules = [file.name for file in (ROOT / "weights").rglob("*.py") if file.name != "__init__.py"]
    page = ast.get_docstring(ast.parse((ROOT / "weights" / "__init__.py").read_text("utf-8")))
    assert page is not None
    assert sorted(re.findall(r"\w+\.py\b", page)) == sorted(modules)
