"""This project."""

from typing import Any, ClassVar

import numpy as np

import resnet_np as rnp
from _engines.base import (
    CLASSES,
    LR,
    MOMENTUM,
    Call,
    Convolution,
    Engine,
    Material,
    process_peak_bytes,
    random_images,
)
from resnet_np import Tensor, kernels, optim
from resnet_np.device import activation_dtype, to_device
from resnet_np.kernels import to_host
from resnet_np.models.pretrained import load_weights


class ResNetNp(Engine):
    """Numba's kernels on the CPU, CuPy on a GPU."""

    package: ClassVar[str] = "resnet_np"

    def __init__(self, device: str, threads: int, precision: str = "fp32") -> None:
        super().__init__(device, threads, precision)
        self.dtype = activation_dtype(precision)
        self.setting = f"{precision}, eval(), no_grad(), {threads} thread(s)"

    def _array(self, *shape: int) -> Any:
        return to_device(random_images(*shape), self.device)

    def _activations(self, images: np.ndarray) -> Any:
        return to_device(images.astype(self.dtype, copy=False), self.device)

    def _precisely(self, call: Call) -> Call:
        """`call`, which multiplies float32 as the precision says."""

        def precise() -> Any:
            with kernels.using_precision("tf32"):
                return call()

        return precise if self.precision == "tf32" else call

    def gemm(self, size: int) -> Call:
        """The matrix product that everything else is measured by: [size, size] @ [size, size]."""
        a, b, c = (self._array(size, size) for _ in range(3))
        xp = kernels.get_array_module(a)
        return lambda: xp.matmul(a, b, out=c)

    def convolution(self, conv: Convolution, batch: int) -> dict[str, Call]:
        x = self._activations(random_images(batch, *conv.image))
        gy = self._activations(random_images(*conv.output(batch)))
        w, where = self._array(*conv.weight), (conv.stride, conv.padding)
        k = kernels.of(x)
        calls: dict[str, Call] = {
            "forward": lambda: k.conv2d(x, w, None, *where),
            "input gradient": lambda: k.conv2d_gx(gy, w, x.shape, *where),
            "weight gradient": lambda: k.conv2d_gw(gy, x, w.shape, *where),
        }
        return {which: self._precisely(call) for which, call in calls.items()}

    def model(self, material: Material) -> rnp.nn.Module:
        model = rnp.resnet50(num_classes=CLASSES)
        load_weights(model, material.weights)
        return model.to(self.device)

    def inference(self, material: Material, batch: int) -> Call:
        model = self.model(material).eval()
        images = Tensor(self._activations(material.read_images(batch)))

        def step() -> Any:
            with rnp.no_grad():
                return model(images).data

        return self._precisely(step)

    def training(self, material: Material, batch: int, unfreeze: str) -> Call:
        model = self.model(material)
        model.freeze_before(unfreeze)
        optimizer = optim.SGD(model.parameters(), LR, MOMENTUM)
        images = Tensor(self._activations(material.read_images(batch)))
        targets = to_device(material.read_labels(batch), self.device)
        self.setting = f"{self.precision}, {self.threads} thread(s)"

        def step() -> Any:
            loss = rnp.cross_entropy(model(images).astype(np.float32), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.data

        return self._precisely(step)

    def on_host(self, result: Any) -> np.ndarray:
        return to_host(result).astype(np.float32, copy=False)

    def wait(self) -> None:
        if self.device == "gpu":
            import cupy

            cupy.cuda.Device().synchronize()

    def forget_peak(self) -> None:
        if self.device == "gpu":
            import cupy

            cupy.get_default_memory_pool().free_all_blocks()  # it counts what it has ever held

    def peak_bytes(self) -> int:
        if self.device == "cpu":
            return process_peak_bytes()
        import cupy

        return cupy.get_default_memory_pool().total_bytes()
