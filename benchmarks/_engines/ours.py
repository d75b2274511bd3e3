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
from resnet_np.device import to_device, to_host
from resnet_np.models.pretrained import load_weights


class ResNetNp(Engine):
    """Numba's kernels on the CPU, CuPy on a GPU."""

    package: ClassVar[str] = "resnet_np"

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        self.setting = f"eval(), no_grad(), {threads} thread(s)"

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

    def model(self, material: Material) -> rnp.nn.Module:
        model = rnp.resnet50(num_classes=CLASSES)
        load_weights(model, material.weights)
        return model.to(self.device)

    def inference(self, material: Material, batch: int) -> Call:
        model = self.model(material).eval()
        images = Tensor(to_device(material.read_images(batch), self.device))

        def step() -> Any:
            with rnp.no_grad():
                return model(images).data

        return step

    def training(self, material: Material, batch: int, unfreeze: str) -> Call:
        model = self.model(material)
        model.freeze_before(unfreeze)
        optimizer = optim.SGD(model.parameters(), LR, MOMENTUM)
        images = Tensor(to_device(material.read_images(batch), self.device))
        targets = to_device(material.read_labels(batch), self.device)
        self.setting = f"{self.threads} thread(s)"

        def step() -> Any:
            loss = rnp.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.data

        return step

    def on_host(self, result: Any) -> np.ndarray:
        return to_host(result)

    def wait(self) -> None:
        if self.device == "gpu":
            import cupy

            cupy.cuda.Device().synchronize()

    def peak_bytes(self) -> int:
        if self.device == "cpu":
            return process_peak_bytes()
        import cupy

        return cupy.get_default_memory_pool().total_bytes()
