"""Which resnet_np does this Python import, and are all of its parts there?

    python tests/check_install.py FOLDER

FOLDER is where every part must come from: the checkout (started in it or installed editable) or an
environment that a wheel was installed into. Run from there, not by pytest: what is in question is
the import path of a fresh Python.
"""

import importlib
import subprocess
import sys
from pathlib import Path

PARTS = (
    "resnet_np",
    "resnet_np.kernels.array",
    "resnet_np.kernels.gpu",
    "resnet_np.kernels.reference",
    "resnet_np.weights",
    "resnet_np.autograd",
    "resnet_np.finetune",
    "resnet_np.predict",
)


def main(folder: Path) -> None:
    sys.path[0] = ""  # as `python -m` and the prompt have it: the folder that Python was started in
    for name in PARTS:
        module = importlib.import_module(name)
        where = Path(str(module.__file__)).resolve()
        if not where.is_relative_to(folder.resolve()):
            sys.exit(f"{name} came from {where}, not from {folder}")
    data = Path(str(importlib.import_module("resnet_np.weights").__file__)).parent
    if not list(data.glob("*.npz")):
        sys.exit(f"the embedded weights are not in {data}")
    importlib.import_module("resnet_np.kernels.gpu.compiling").source("elementwise.cu")
    for name in ("kernels", "weights"):
        if name in sys.modules:
            sys.exit(f"a bare {name} was imported")
    for command in (["resnet_np.finetune", "--help"], ["resnet_np.weights", "list"]):
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    print(f"all parts of resnet_np {sys.modules['resnet_np'].__version__} come from {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
