"""The frameworks' own ways from a photograph to the input of a network, each beside a contract.

    torchvision   the `transforms()` that come with its weights, on Pillow images and on tensors
    Keras         `load_img`, then `preprocess_input`
    Hugging Face  the image processor of microsoft/resnet-50, through Pillow and through
                  torchvision; and those that a written folder names

Import this before keras: it chooses the backend that the comparisons install.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import torch
from PIL import Image
from torchvision_shim import torchvision
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.convnext.image_processing_convnext import ConvNextImageProcessor
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from resnet_np.data.images import decode, fit
from resnet_np.weights import (
    HUGGINGFACE,
    KERAS_CAFFE,
    TORCHVISION,
    TORCHVISION_V2,
    Contract,
)
from resnet_np.weights.contract import INTERPOLATIONS, SAMPLED
from resnet_np.weights.formats.huggingface_images import write_contract

SIZE = 224
ORIENTATION = 0x0112

# What microsoft/resnet-50 has in its preprocessor_config.json.
PREPROCESSOR = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}
# What its way through torchvision can do. Of two equally near pixels it may choose the other one.
FAST = {"nearest": 255, "bilinear": 1, "bicubic": 2, "lanczos": 2}
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's number

Transform = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """A framework's transform: image file -> float32 [S, S, 3]; and the contract that equals it.

    allowed: steps of 8 bits. More than one only where the framework has two ways that differ: ours
        equals the one through Pillow, so the other differs from both by as much.
    """

    contract_name: str
    contract: Contract
    framework: str
    transform: Transform
    allowed: int = 1

    def __str__(self) -> str:
        points = "" if self.contract.antialias else ", no antialias"
        return f"{self.contract_name}, {self.contract.interpolation}{points}, {self.framework}"


@dataclass(frozen=True)
class Difference:
    """Of one photograph: in steps of 8 bits before normalisation, and of the network's input."""

    largest: float
    share: float
    mean: float
    normalised: float


def photographs(folder: Path) -> list[Path]:
    """20 of all kinds: large and small, one grey, one of 3024 x 3024 pixels that lies on its side.

    Uneven sizes are among them, so that a crop's corner is rounded.
    """
    images = folder / "images"
    one_of = {name: sorted((images / name).rglob("*.[jJ][pP]*")) for name in FOLDERS}
    chosen = [paths[i] for name, paths in one_of.items() for i in FOLDERS[name]]
    named = ("imagenet-100/n03908714_pencil_sharpener.JPEG", "sign-language-digits/7/IMG_5874.JPG")
    return [*chosen, *(images / name for name in named)]


FOLDERS = {
    "imagenet-100": range(3, 93, 10),
    "trashnet/test": range(0, 90, 18),
    "sign-language-digits": range(0, 2000, 500),
}


def comparisons() -> Iterator[Comparison]:
    for as_tensor, kind in ((False, "image"), (True, "tensor")):
        v1, v2 = (_published(f"IMAGENET1K_V{n}", as_tensor) for n in (1, 2))
        yield Comparison("TORCHVISION", TORCHVISION, f"transforms() of V1, {kind}", v1)
        yield Comparison("TORCHVISION_V2", TORCHVISION_V2, f"transforms() of V2, {kind}", v2)
    for interpolation in INTERPOLATIONS:
        contract = replace(TORCHVISION_V2, interpolation=interpolation)
        image = _preset(interpolation, antialias=True)
        yield Comparison("TORCHVISION_V2", contract, "torchvision, image", image)
    for interpolation, allowed in (("bilinear", 1), ("bicubic", 8)):
        contract = replace(TORCHVISION_V2, interpolation=interpolation)
        tensor = _preset(interpolation, antialias=True, as_tensor=True)
        yield Comparison("TORCHVISION_V2", contract, "torchvision, tensor", tensor, allowed)
    for interpolation in SAMPLED:
        contract = replace(TORCHVISION_V2, interpolation=interpolation, antialias=False)
        tensor = _preset(interpolation, antialias=False, as_tensor=True)
        yield Comparison("TORCHVISION_V2", contract, "torchvision, tensor", tensor)
    for interpolation in INTERPOLATIONS:
        contract = replace(KERAS_CAFFE, interpolation=interpolation)
        yield Comparison("KERAS_CAFFE", contract, "Keras, load_img", _keras(interpolation))
    for interpolation in INTERPOLATIONS:
        contract = replace(HUGGINGFACE, interpolation=interpolation)
        slow = _processor(ConvNextImageProcessorPil, interpolation)
        yield Comparison("HUGGINGFACE", contract, "Hugging Face, Pillow", slow)
        if allowed := FAST.get(interpolation):
            fast = _processor(ConvNextImageProcessor, interpolation)
            yield Comparison("HUGGINGFACE", contract, "Hugging Face, torchvision", fast, allowed)
    stretched = replace(HUGGINGFACE, fit="stretch", resize=SIZE)
    for contract, kind in (
        (HUGGINGFACE, BitImageProcessorPil),
        (stretched, ViTImageProcessorPil),
    ):
        processor = kind.from_dict(write_contract(contract)[0])
        name = "HUGGINGFACE" if contract.fit == "crop" else "HUGGINGFACE, stretched"
        yield Comparison(name, contract, "Hugging Face, as written", _through(processor))


def compare(comparison: Comparison, path: Path) -> Difference:
    contract = comparison.contract
    ours = fit(_decoded(path), contract, SIZE)
    theirs = comparison.transform(path)
    # Back to bytes: both are b * scale, minus the mean, through the standard deviation.
    back = (theirs.astype(np.float64) * contract.std + contract.mean) / contract.scale
    if contract.color == "BGR":
        back = back[..., ::-1]
    steps = np.abs(np.rint(back) - ours)
    normalised = np.abs(contract.normalise(ours[None])[0] - theirs)
    return Difference(steps.max(), np.mean(steps > 0), steps.mean(), normalised.max())


@cache
def _decoded(path: Path) -> Image.Image:
    return decode(path)


def _from_torch(x: torch.Tensor) -> np.ndarray:
    return x.permute(1, 2, 0).numpy()  # [C, H, W] -> [H, W, C]


def _published(version: str, as_tensor: bool) -> Transform:
    return _torchvision(torchvision.models.ResNet50_Weights[version].transforms(), as_tensor)


def _preset(interpolation: str, antialias: bool, as_tensor: bool = False) -> Transform:
    preset = torchvision.transforms._presets.ImageClassification(
        crop_size=SIZE,
        resize_size=TORCHVISION_V2.resize,
        interpolation=torchvision.transforms.InterpolationMode(interpolation),
        antialias=antialias,
    )
    return _torchvision(preset, as_tensor)


def _torchvision(preset: torch.nn.Module, as_tensor: bool) -> Transform:
    to_tensor = torchvision.transforms.functional.pil_to_tensor

    def transform(path: Path) -> np.ndarray:
        image = _decoded(path)
        return _from_torch(preset(to_tensor(image) if as_tensor else image))

    return transform


def _keras(interpolation: str) -> Transform:
    def load(path: Path) -> np.ndarray:
        image = keras.utils.load_img(path, target_size=(SIZE, SIZE), interpolation=interpolation)
        return keras.utils.img_to_array(image)

    def transform(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) != 1
        if turned:  # Keras leaves such images lying on their side
            with tempfile.TemporaryDirectory() as folder:
                _decoded(path).save(upright := Path(folder) / "upright.png")
                x = load(upright)
        else:
            x = load(path)
        return keras.applications.resnet50.preprocess_input(x)

    return transform


def _processor(kind: type, interpolation: str) -> Transform:
    return _through(kind.from_dict(PREPROCESSOR | {"resample": RESAMPLE.index(interpolation)}))


def _through(processor: Callable) -> Transform:
    def transform(path: Path) -> np.ndarray:
        pixels = processor(_decoded(path), return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels).transpose(1, 2, 0)  # [C, H, W] -> [H, W, C]

    return transform
