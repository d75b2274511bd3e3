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

    def __init__(self, device: str, threads: int, precision: str = "fp32") -> None:
        super().__init__(device, threads, precision)
        import torch

        if device == "gpu" and not torch.cuda.is_available():
            raise UserError("--against torch --device gpu: this PyTorch sees no usable GPU")
        self.torch, self.place = torch, "cuda" if device == "gpu" else "cpu"
        torch.set_num_threads(threads)
        # On a GPU, without this, its convolutions would use shorter numbers and its products not.
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True  # looks for the fastest way, once for each shape
        self.memory_format = getattr(torch, self.layout)
        self.short = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        how = f"autocast({self.short})" if self.short else precision
        self.setting = f"eager, {self.layout}, {how}, set_num_threads({threads})"

    def _autocast(self) -> Any:
        """Inside, what gains by it is computed in 16 bits, if that is the precision."""
        return self.torch.autocast(self.place, self.short, enabled=self.short is not None)

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

    def _inference_model(self, material: Material) -> Any:
        """Its weights are rounded once, not in each call as autocast would."""
        model = self.model(material).eval()
        for module in model.modules():
            if self.short and isinstance(module, self.torch.nn.Conv2d | self.torch.nn.Linear):
                module.to(self.short)
        return model

    def inference(self, material: Material, batch: int) -> Call:
        model, images = self._inference_model(material), self._tensor(material.read_images(batch))
        self.setting += ", eval(), inference_mode()"

        def step() -> Any:
            with self.torch.inference_mode(), self._autocast():
                return model(images)

        return step

    def _compiled(self, model: Any) -> Any:
        """The model in the form that runs."""
        return model

    def training(self, material: Material, batch: int, unfreeze: str) -> Call:
        model, images = self.model(material).train(), self._tensor(material.read_images(batch))
        freeze_before(model, unfreeze)
        network = self._compiled(model)
        targets = self.torch.from_numpy(material.read_labels(batch)).to(self.place)
        optimizer = self.torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad], LR, MOMENTUM
        )

        def step() -> Any:
            with self._autocast():
                loss = self.torch.nn.functional.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    def on_host(self, result: Any) -> np.ndarray:
        return result.detach().float().cpu().numpy()

    def wait(self) -> None:
        if self.place == "cuda":
            self.torch.cuda.synchronize()

    def forget_peak(self) -> None:
        if self.place == "cuda":
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

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
    """Compiled by inductor; for prediction with weights as constants, which fuses batch norms."""

    tasks: ClassVar[tuple[str, ...]] = ("inference", "training")

    def _compiled(self, model: Any) -> Any:
        if not shutil.which(os.environ.get("CXX", "g++")):
            raise UserError(
                "--against torch-compile: needs a C++ compiler, g++ or the one that CXX names"
            )
        self.setting = self.setting.replace("eager", "torch.compile(dynamic=False)")
        return self.torch.compile(model, dynamic=False)

    def inference(self, material: Material, batch: int) -> Call:
        from torch._inductor import config

        config.freezing = True
        model = self._compiled(self._inference_model(material))
        images = self._tensor(material.read_images(batch))
        self.setting += ", inductor with freezing, eval(), no_grad()"

        def step() -> Any:
            with self.torch.no_grad(), self._autocast():  # freezing asks for no_grad
                return model(images)

        return step
