"""What is measured: our engine, and those that it is compared with, behind the same few methods.

To add one: a class with the methods of `Engine`, and a line in ENGINES.
"""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from _common import Call, blas_threads

import resnet_np as rnp
from resnet_np import Tensor, kernels, optim
from resnet_np.device import to_device
from resnet_np.errors import UserError
from resnet_np.kernels import Padding, Pair

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "compare"))  # for torchvision_shim

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


class Engine(Protocol):
    """An engine on a device. Each method that returns a Call has prepared all that it needs."""

    def __init__(self, device: str) -> None: ...

    def convolution(self, conv: Convolution, batch: int) -> dict[str, Call]:
        """A call for each of PASSES."""

    def inference(self, batch: int) -> Call:
        """ResNet-50 at 224 pixels in evaluation mode."""

    def training(self, batch: int) -> Call:
        """One step of ResNet-50 at 224 pixels: forward, backward, SGD with momentum."""

    def wait(self) -> None:
        """Until the device has done what it was told."""

    def peak_bytes(self) -> int:
        """The most memory that was in use: the process's, or the device's on a GPU."""


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def random_labels(batch: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, batch)


def process_peak_bytes() -> int:
    """Of this process since it began (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class ResNetNp:
    """This project: NumPy on the CPU, CuPy on a GPU."""

    def __init__(self, device: str) -> None:
        self.device = device

    def _array(self, *shape: int) -> Any:
        return to_device(random_images(*shape), self.device)

    def gemm(self, size: int) -> Call:
        """The matrix product that everything else is measured by: [size, size] @ [size, size]."""
        a, b, c = (self._array(size, size) for _ in range(3))
        xp = kernels.get_array_module(a)
        return lambda: xp.matmul(a, b, out=c)

    def convolution(self, conv: Convolution, batch: int) -> dict[str, Call]:
        x, w = self._array(batch, *conv.image), self._array(*conv.weight)
        gy, where = self._array(*conv.output(batch)), (conv.stride, conv.padding)
        k = kernels.of(x)
        return {
            "forward": lambda: k.conv2d(x, w, None, *where),
            "input gradient": lambda: k.conv2d_gx(gy, w, x.shape, *where),
            "weight gradient": lambda: k.conv2d_gw(gy, x, w.shape, *where),
        }

    def _model(self) -> rnp.nn.Module:
        return rnp.resnet50(num_classes=CLASSES).to(self.device)

    def inference(self, batch: int) -> Call:
        model = self._model().eval()
        images = Tensor(self._array(batch, PIXELS, PIXELS, 3))

        def step() -> None:
            with rnp.no_grad():
                model(images)

        return step

    def training(self, batch: int) -> Call:
        model = self._model()
        optimizer = optim.SGD(model.parameters(), LR, MOMENTUM)
        images = Tensor(self._array(batch, PIXELS, PIXELS, 3))
        targets = to_device(random_labels(batch), self.device)

        def step() -> None:
            loss = rnp.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    def wait(self) -> None:
        if self.device == "gpu":
            import cupy

            cupy.cuda.Device().synchronize()

    def peak_bytes(self) -> int:
        if self.device == "cpu":
            return process_peak_bytes()
        import cupy

        return cupy.get_default_memory_pool().total_bytes()


class Torch:
    """PyTorch, with its images and weights in the same order as ours (channels_last)."""

    def __init__(self, device: str) -> None:
        import torch

        if device == "gpu" and not torch.cuda.is_available():
            raise UserError("--against torch --device gpu: this PyTorch sees no usable GPU")
        self.torch, self.device = torch, "cuda" if device == "gpu" else "cpu"
        torch.set_num_threads(blas_threads())
        # float32 everywhere: on a GPU its convolutions would use shorter numbers by default.
        torch.backends.cudnn.allow_tf32 = False

    def _array(self, *shape: int) -> Any:
        """A random [N, H, W, C] as torch's [N, C, H, W], still lying in memory channels last."""
        return self.torch.from_numpy(random_images(*shape)).to(self.device).permute(0, 3, 1, 2)

    def convolution(self, conv: Convolution, batch: int) -> dict[str, Call]:
        torch = self.torch
        r, s, c, k = conv.weight
        x, w = self._array(batch, *conv.image), self._array(k, r, s, c)
        gy = self._array(*conv.output(batch))
        padding = [border[0] for border in conv.padding]

        def gradients(*wanted: bool) -> Any:  # what torch's own way back calls
            arguments = (None, conv.stride, padding, (1, 1), False, (0, 0), 1, (*wanted, False))
            return torch.ops.aten.convolution_backward(gy, x, w, *arguments)

        def forward() -> Any:
            with torch.no_grad():
                return torch.nn.functional.conv2d(x, w, None, conv.stride, padding)

        return {
            "forward": forward,
            "input gradient": lambda: gradients(True, False),
            "weight gradient": lambda: gradients(False, True),
        }

    def _model(self) -> Any:
        from torchvision_shim import torchvision

        model = torchvision.models.resnet50(num_classes=CLASSES)
        return model.to(self.device, memory_format=self.torch.channels_last)

    def inference(self, batch: int) -> Call:
        model, images = self._model().eval(), self._array(batch, PIXELS, PIXELS, 3)

        def step() -> None:
            with self.torch.inference_mode():
                model(images)

        return step

    def training(self, batch: int) -> Call:
        model, images = self._model(), self._array(batch, PIXELS, PIXELS, 3)
        targets = self.torch.from_numpy(random_labels(batch)).to(self.device)
        optimizer = self.torch.optim.SGD(model.parameters(), LR, MOMENTUM)

        def step() -> None:
            loss = self.torch.nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    def wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        if self.device == "cpu":
            return process_peak_bytes()
        return self.torch.cuda.max_memory_reserved()


ENGINES: dict[str, type[Engine]] = {"resnet_np": ResNetNp, "torch": Torch}
