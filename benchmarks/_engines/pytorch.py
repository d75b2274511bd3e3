"""PyTorch in three ways: eager with its channels last, eager as it comes, and compiled."""

import os
import shutil
from typing import Any, ClassVar

import numpy as np

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
from resnet_np.errors import UserError


class Torch(Engine):
    """Eager, its images and weights in the same order as ours (channels_last), which suits CPUs."""

    package: ClassVar[str] = "torch"
    layout: ClassVar[str] = "channels_last"

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        import torch

        if device == "gpu" and not torch.cuda.is_available():
            raise UserError("--against torch --device gpu: this PyTorch sees no usable GPU")
        self.torch, self.place = torch, "cuda" if device == "gpu" else "cpu"
        torch.set_num_threads(threads)
        # float32 everywhere: on a GPU its convolutions would use shorter numbers by default.
        torch.backends.cudnn.allow_tf32 = False
        self.memory_format = getattr(torch, self.layout)
        self.setting = f"eager, {self.layout}, set_num_threads({threads})"

    def _tensor(self, images: np.ndarray) -> Any:
        """[N, H, W, C] as torch's [N, C, H, W], in memory as `layout` says."""
        tensor = self.torch.from_numpy(images).to(self.place).permute(0, 3, 1, 2)
        return tensor.contiguous(memory_format=self.memory_format)

    def convolution(self, conv: Convolution, batch: int) -> dict[str, Call]:
        torch = self.torch
        r, s, c, k = conv.weight
        x, w = (self._tensor(random_images(*a)) for a in ((batch, *conv.image), (k, r, s, c)))
        gy = self._tensor(random_images(*conv.output(batch)))
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

    def model(self, material: Material) -> Any:
        """torchvision's network with these weights."""
        from torchvision_shim import torchvision

        model = torchvision.models.resnet50(num_classes=CLASSES)
        with np.load(material.weights) as file:
            state = {name: self.torch.from_numpy(file[name]) for name in file.files}
        wrong = model.load_state_dict(state, strict=False)
        absent = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
        assert not absent and not wrong.unexpected_keys, wrong
        return model.to(self.place, memory_format=self.memory_format)

    def inference(self, material: Material, batch: int) -> Call:
        model, images = self.model(material).eval(), self._tensor(material.read_images(batch))
        self.setting += ", eval(), inference_mode()"

        def step() -> Any:
            with self.torch.inference_mode():
                return model(images)

        return step

    def training(self, material: Material, batch: int, unfreeze: str) -> Call:
        model, images = self.model(material).train(), self._tensor(material.read_images(batch))
        freeze_before(model, unfreeze)
        targets = self.torch.from_numpy(material.read_labels(batch)).to(self.place)
        optimizer = self.torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad], LR, MOMENTUM
        )

        def step() -> Any:
            loss = self.torch.nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    def on_host(self, result: Any) -> np.ndarray:
        return result.detach().cpu().numpy()

    def wait(self) -> None:
        if self.place == "cuda":
            self.torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        if self.place == "cpu":
            return process_peak_bytes()
        return self.torch.cuda.max_memory_reserved()


def freeze_before(model: Any, unfreeze: str) -> None:
    """No gradients and fixed statistics for every child in front of this one; "stem": for none."""
    for name, child in model.named_children():
        if unfreeze in ("stem", name):
            return
        child.requires_grad_(False)
        child.eval()


class TorchNchw(Torch):
    """Eager, in the layout that it has where nobody chooses one: [N, C, H, W]."""

    layout: ClassVar[str] = "contiguous_format"


class TorchCompile(Torch):
    """Compiled by inductor, with weights as constants ("freezing"), which fuses batch norms."""

    tasks: ClassVar[tuple[str, ...]] = ("inference",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def inference(self, material: Material, batch: int) -> Call:
        if not shutil.which(os.environ.get("CXX", "g++")):
            raise UserError(
                "--against torch-compile: needs a C++ compiler, g++ or the one that CXX names"
            )
        from torch._inductor import config

        config.freezing = True
        model = self.torch.compile(self.model(material).eval(), dynamic=False)
        images = self._tensor(material.read_images(batch))
        self.setting = (
            f"torch.compile(dynamic=False), inductor with freezing, {self.layout}, "
            f"set_num_threads({self.threads}), no_grad()"
        )

        def step() -> Any:
            with self.torch.no_grad():  # freezing asks for it
                return model(images)

        return step
