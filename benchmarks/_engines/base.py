"""What every engine has, and what every engine is given."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from resnet_np import kernels
from resnet_np.kernels import Padding, Pair

COMPARE = Path(__file__).parents[2] / "tests" / "compare"
sys.path[:0] = [str(COMPARE.parent), str(COMPARE)]  # for torchvision_shim, torch_bridge, parity

Call = Callable[[], Any]

PASSES = ("forward", "input gradient", "weight gradient")
PIXELS, CLASSES = 224, 1000
LR, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network, for any batch: `image` is (H, W, C), `weight` (R, S, C, K)."""

    image: tuple[int, int, int]
    weight: tuple[int, int, int, int]
    stride: Pair
    padding: Padding

    def output(self, batch: int) -> tuple[int, int, int, int]:
        """[N, P, Q, K]."""
        size = self.weight[:2]
        p, q = kernels.output_sizes((batch, *self.image), size, self.stride, self.padding)
        return batch, p, q, self.weight[3]

    def gflop(self, batch: int) -> float:
        """Of one pass: a multiplication and an addition for each weight at each output pixel."""
        n, p, q, _ = self.output(batch)
        return 2e-9 * n * p * q * float(np.prod(self.weight))

    def __str__(self) -> str:
        (h, w, c), (r, s, _, k) = self.image, self.weight
        return f"{h}x{w} {c}>{k} {r}x{s}" + (f"/{self.stride[0]}" if self.stride != (1, 1) else "")


@dataclass(frozen=True)
class Material:
    """What all engines get, as files in a folder: nothing is downloaded, and nobody's is another's.

    weights: .npz, names and layout torchvision's. graph: the same as .onnx, where asked for.
    images: .npy, float32 [N, 224, 224, 3], normalised. labels: .npy, int64 [N].
    """

    weights: Path
    graph: Path
    images: Path
    labels: Path

    def read_images(self, batch: int) -> np.ndarray:
        """The first `batch` of them: float32 [batch, 224, 224, 3]."""
        return np.load(self.images)[:batch]

    def read_labels(self, batch: int) -> np.ndarray:
        return np.load(self.labels)[:batch]


class Engine:
    """An engine on a device. Each method that returns a Call has prepared all that it needs.

    tasks, devices: what can be measured of it. package: what it needs, by the name of its import.
    setting: how it was set up for speed, in one line; complete when something was prepared.
    precision: "fp32"; on a GPU "tf32", "bf16" or "fp16", too, with parameters in float32.
    """

    tasks: ClassVar[tuple[str, ...]] = ("convolution", "inference", "training")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    package: ClassVar[str]
    setting: str

    def __init__(self, device: str, threads: int, precision: str = "fp32") -> None:
        self.device, self.threads, self.precision = device, threads, precision

    def convolution(self, conv: Convolution, batch: int) -> dict[str, Call]:
        """A call for each of PASSES."""
        raise NotImplementedError

    def inference(self, material: Material, batch: int) -> Call:
        """ResNet-50 in evaluation mode; the call's result are the logits, wherever they lie."""
        raise NotImplementedError

    def training(self, material: Material, batch: int, unfreeze: str) -> Call:
        """One step: forward, backward, SGD with momentum; the call's result is the loss.

        unfreeze: the first stage that is trained. Those before it are frozen, batch norms as well.
        """
        raise NotImplementedError

    def on_host(self, result: Any) -> np.ndarray:
        """The result of such a call as a NumPy array."""
        return np.asarray(result)

    def wait(self) -> None:
        """Until the device has done what it was told."""

    def forget_peak(self) -> None:
        """On a GPU, only what is in use from now on counts for `peak_bytes`."""

    def peak_bytes(self) -> int:
        """The most memory that was in use: the process's, or the device's on a GPU."""
        return process_peak_bytes()


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def process_peak_bytes() -> int:
    """The most memory that this process ever held.

    Linux counts `ru_maxrss` on from the process that started this one, so its other figure is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
