"""What Numba compiles for the processor that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name, as JSON.

    python benchmarks/acceptance/_machine_code.py run|compile

run: a small network predicts and learns; the machine code of all kernels that took part.
compile: two convolutions, compiled but not run, so that this processor need not be that one.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import resnet_np as rnp

MULTIPLY_ADD = re.compile(r"^\s*vfn?m(?:add|sub)\w+\s+(.*)$", re.MULTILINE)


class OnlyCompiled:
    """In place of a kernel: its machine code is made for such arguments, and left alone."""

    def __init__(self, dispatcher: Any) -> None:
        self.dispatcher, self.py_func = dispatcher, dispatcher.py_func

    def __call__(self, *arguments: Any) -> None:
        self.dispatcher.compile(tuple(map(numba.typeof, arguments)))


def keep_dispatchers(run: bool) -> list[Any]:
    """A list to which everything is added that will be compiled.

    run: whether kernels, which are those with `parallel`, run or are compiled only.
    """
    made: list[Any] = []
    njit = numba.njit

    def kept(function: Callable, **options: Any) -> Any:
        made.append(njit(function, **options))
        return made[-1] if run or not options.get("parallel") else OnlyCompiled(made[-1])

    numba.njit = kept
    return made


def convolve() -> None:
    """A 1x1 convolution, and a 3x3 with a stride of 2."""
    from resnet_np.kernels import cpu

    for size in (1, 3):
        x, w = np.zeros((1, 8, 8, 64), np.float32), np.zeros((size, size, 64, 64), np.float32)
        cpu.conv2d(x, w, None, (size // 2 + 1,) * 2, ((size // 2,) * 2,) * 2)


def predict_and_learn() -> None:
    model = rnp.resnet50(width=0.25, num_classes=10)
    images = rnp.Tensor(np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32))
    optimizer = rnp.optim.SGD(model.parameters(), 0.01, 0.9)
    rnp.cross_entropy(model(images), np.array([1, 2])).backward()
    optimizer.step()
    with rnp.no_grad():
        model.eval()(images)


def main() -> None:
    run = sys.argv[1] == "run"
    made = keep_dispatchers(run)
    from resnet_np.kernels.cpu import target

    if run:
        predict_and_learn()
    else:
        convolve()
    code = "\n".join(
        assembly for one in made if one.signatures for assembly in one.inspect_asm().values()
    )
    sums = [line.split()[-1] for line in MULTIPLY_ADD.findall(code)]
    tile = target.TILE
    found = {
        "tile": [tile.rows, tile.vectors, tile.lanes],
        "functions": sum(bool(one.signatures) for one in made),
        "zmm": len(re.findall(r"%zmm\d", code)),
        "ymm": len(re.findall(r"%ymm\d", code)),
        "multiply_adds": len(sums),
        "zmm_sums": len({name for name in sums if "zmm" in name}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
