"""ResNets of the real frameworks, every number random, saved in every format that they write.

Each tensor gets numbers of its own, drawn by its name, so that none can be taken for another; their
scales keep the activations near 1. A `Source` knows what its framework computes, and what a reader
has to find out about its files.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torchvision_shim import torchvision  # first: timm and transformers import torchvision

# isort: split
import keras_resnet
import numpy as np
import timm
import torch
from keras_resnet import keras
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV3
from torch.optim.swa_utils import AveragedModel
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

from resnet_np.weights import TORCHVISION, WeightFile, read

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "golden")]
import imported
from make_torch_files import write_tar
from numbers_by_name import numbers
from parity import relative_error, torch_layout

Save = Callable[[Path], Path]
"""Writes into an empty folder, and says what is to be read."""

FORMATS = {
    "zip": "pytorch-zip",
    "legacy": "pytorch-legacy",
    "tar": "pytorch-tar",
    "safetensors": "safetensors",
    "npz": "npz",
    "folder": "huggingface",
    "h5": "keras-h5",
    "whole h5": "keras-h5",
    "weights.h5": "keras-weights-h5",
    "keras": "keras-zip",
}
"""The formats of the table, and what a reader calls them."""


@dataclass(frozen=True)
class Source:
    """One network of one framework.

    run: images as bytes [N, H, W, 3] -> logits [N, K], or pooled features where it has no head.
    save: a column of the table -> how the framework writes the network.
    names: what a reader calls the source.
    variant: what the network is; `tells` are the formats whose files say so.
    left_out: what the files hold besides the network.
    """

    run: Callable[[np.ndarray], np.ndarray]
    save: dict[str, Save]
    names: str
    depth: int
    variant: str
    tells: tuple[str, ...]
    bn_eps: float
    left_out: frozenset[str]


def read_back(source: Source, format: str) -> WeightFile:
    """What is read here from the framework's file, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return read(source.save[format](Path(folder)))


def expected_facts(source: Source, format: str) -> dict[str, Any]:
    """What a reader has to find out about one of its files: the facts of tests/imported.py."""
    of_keras = source.names == "keras"
    return {
        "format": FORMATS[format],
        "source": source.names,
        "depth": source.depth,
        "variant": source.variant if format in source.tells else None,
        "bn_eps": source.bn_eps,
        "conv_bias": of_keras,
        "color": "BGR" if of_keras else "RGB",
        "left_out": sorted(source.left_out),
        "left out without a reason": [],
        "folded_statistics": False,
    }


def wrong_facts(source: Source, format: str, file: WeightFile) -> list[str]:
    """What a reader has found out wrongly about a file."""
    found = imported.facts(file)
    return [
        f"{fact} is {found[fact]!r}, not {value!r}"
        for fact, value in expected_facts(source, format).items()
        if found[fact] != value
    ]


def error(source: Source, file: WeightFile, images: np.ndarray, expected: np.ndarray) -> float:
    """The largest max|a - b| / max|b| of any image."""
    ours = imported.run(file, source.variant, images)
    return max(relative_error(a, b) for a, b in zip(ours, expected, strict=True))


# --- PyTorch -------------------------------------------------------------------------------------

# The last batch norm of a bottleneck: 16 to 50 blocks each add to their input.
LAST_NORM = re.compile(r".*(\.bn3|layer\.2\.normalization)\.weight")


def randomise(network: torch.nn.Module) -> torch.nn.Module:
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
            continue
        shape = torch_to_ours(tuple(tensor.shape))
        values = torch_layout(numbers(name, shape).astype(np.float32))
        tensor.copy_(torch.from_numpy(values))
        if LAST_NORM.fullmatch(name):
            tensor /= 3
    return network.eval()


def narrowed(network: torch.nn.Module, narrow: int) -> torch.nn.Module:
    """The same with one `narrow`-th of all channels, but for the image's."""

    def part(channels: int) -> int:
        return channels if channels == 3 else channels // narrow

    for name, layer in list(network.named_modules()):
        new: torch.nn.Module
        if isinstance(layer, torch.nn.Conv2d):
            sizes = (layer.kernel_size, layer.stride, layer.padding)
            channels = part(layer.in_channels), part(layer.out_channels)
            new = torch.nn.Conv2d(*channels, *sizes, bias=False)  # type: ignore[arg-type]
        elif isinstance(layer, torch.nn.BatchNorm2d):
            new = torch.nn.BatchNorm2d(part(layer.num_features), layer.eps)
        elif isinstance(layer, torch.nn.Linear):
            new = torch.nn.Linear(part(layer.in_features), part(layer.out_features))
        else:
            continue
        network.set_submodule(name, new)
    return network


def torch_to_ours(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[2:], *shape[1::-1]) if len(shape) > 1 else shape


def torch_run(network: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The network behind torchvision's own normalisation."""

    def run(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) / 255
        x = torchvision.transforms.functional.normalize(
            x, list(TORCHVISION.mean), list(TORCHVISION.std)
        )
        with torch.no_grad():
            y = network(x)
        return getattr(y, "logits", y).numpy()

    return run


def zipped(saved: Any) -> Save:
    def save(folder: Path) -> Path:
        torch.save(saved, folder / "file")
        return folder / "file"

    return save


def legacy(saved: Any) -> Save:
    def save(folder: Path) -> Path:
        torch.save(saved, folder / "file", _use_new_zipfile_serialization=False)
        return folder / "file"

    return save


def tar(state: dict[str, torch.Tensor]) -> Save:
    """PyTorch takes it, too: its maker here and our reader share no mistake."""

    def save(folder: Path) -> Path:
        write_tar(folder / "file", state)
        again = torch.load(folder / "file", weights_only=False)
        assert list(again) == list(state)
        assert all(torch.equal(again[name], state[name]) for name in state)
        return folder / "file"

    return save


def safetensors(state: dict[str, torch.Tensor]) -> Save:
    def save(folder: Path) -> Path:
        save_file(state, folder / "file")
        return folder / "file"

    return save


def npz(state: dict[str, torch.Tensor]) -> Save:
    def save(folder: Path) -> Path:
        with open(folder / "file", "wb") as file:
            np.savez(file, **{name: tensor.numpy() for name, tensor in state.items()})
        return folder / "file"

    return save


def counters(state: dict[str, Any]) -> frozenset[str]:
    return frozenset(name for name in state if name.endswith("num_batches_tracked"))


def torch_source(
    network: torch.nn.Module, depth: int, save: dict[str, Save], left_out: frozenset[str]
) -> Source:
    return Source(
        torch_run(network),
        save,
        names="torchvision",
        depth=depth,
        variant="v1.5",
        tells=(),
        bn_eps=1e-5,
        left_out=left_out,
    )


def plain(depth: int, narrow: int) -> torch.nn.Module:
    return narrowed(getattr(torchvision.models, f"resnet{depth}")(), narrow)


def from_torchvision(depth: int, narrow: int) -> Source:
    network = randomise(plain(depth, narrow))
    state = network.state_dict()
    makers = {"zip": zipped, "legacy": legacy, "tar": tar, "safetensors": safetensors, "npz": npz}
    save = {format: maker(state) for format, maker in makers.items()}
    return torch_source(network, depth, save, counters(state))


def from_timm(depth: int, narrow: int) -> Source:
    network = randomise(narrowed(timm.create_model(f"resnet{depth}"), narrow))
    state = network.state_dict()

    def hub(name: str) -> Save:
        def save(folder: Path) -> Path:
            timm.models.save_for_hf(network, folder, safe_serialization="both")
            return folder / name

        return save

    save = {
        "zip": hub("pytorch_model.bin"),
        "legacy": legacy(state),
        "safetensors": hub("model.safetensors"),
    }
    return torch_source(network, depth, save, counters(state))


# --- training checkpoints ------------------------------------------------------------------------


class InAClass(torch.nn.Module):
    """A user's own network, with a ResNet as an attribute and perhaps a head of its own."""

    def __init__(self, attribute: str, network: torch.nn.Module, head: bool) -> None:
        super().__init__()
        setattr(self, attribute, network)
        if head:
            self.classifier = torch.nn.Linear(network.fc.in_features, 5)
            network.fc = torch.nn.Identity()


def in_parallel(network: torch.nn.Module) -> dict[str, Any]:
    return torch.nn.DataParallel(network).state_dict()


def compiled(network: torch.nn.Module) -> dict[str, Any]:
    return torch.nn.DataParallel(torch.compile(network)).state_dict()


def as_attribute(network: torch.nn.Module) -> dict[str, Any]:
    return InAClass("model", network, head=False).state_dict()


def averaged(network: torch.nn.Module) -> dict[str, Any]:
    return AveragedModel(network).state_dict()


# row of the table -> (the entry that holds the weights, what is in it)
CHECKPOINTS: dict[str, tuple[str | None, Callable[[torch.nn.Module], dict[str, Any]]]] = {
    "checkpoint: DataParallel": (None, in_parallel),
    "checkpoint: torch.compile": (None, compiled),
    "checkpoint: AveragedModel": (None, averaged),
    "checkpoint: state_dict of DataParallel": ("state_dict", in_parallel),
    "checkpoint: state_dict of a class": ("state_dict", as_attribute),
    "checkpoint: model": ("model", torch.nn.Module.state_dict),
    "checkpoint: model_state_dict": ("model_state_dict", torch.nn.Module.state_dict),
}


def from_checkpoint(name: str, narrow: int) -> Source:
    """ResNet-18 as training scripts save it: wrapped, prefixed, beside other things."""
    network = randomise(plain(18, narrow))
    wrapper, state_of = CHECKPOINTS[name]
    state = state_of(network)
    beside = of_training(network, plain(18, narrow)) if wrapper else {}
    saved = {wrapper: state, **beside} if wrapper else state
    left_out = counters(state) | ({"n_averaged"} & set(state)) | set(beside)
    save = {"zip": zipped(saved), "legacy": legacy(saved)}
    return torch_source(network, 18, save, left_out)


def of_training(network: torch.nn.Module, average: torch.nn.Module) -> dict[str, Any]:
    """What lies beside the weights in a checkpoint; the average has other numbers than they."""
    optimizer = trained(network)
    return {
        "epoch": 89,
        "arch": "resnet18",
        "best_acc1": torch.tensor(71.5),
        "args": argparse.Namespace(lr=0.5, data_path=Path("imagenet")),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
        "model_ema": averaged(average),
    }


def trained(network: torch.nn.Module) -> torch.optim.Optimizer:
    """An optimizer with all the state that a step leaves behind; its rate of 0 changes nothing."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def from_backbone(narrow: int) -> Source:
    """Pooled features: the head of the class is none of the ResNet."""
    whole = randomise(InAClass("backbone", plain(18, narrow), head=True))
    state = torch.nn.DataParallel(whole).state_dict()
    head = {"module.classifier.weight", "module.classifier.bias"}
    save = {"zip": zipped(state), "legacy": legacy(state)}
    left_out = counters(state) | head
    return torch_source(whole.backbone, 18, save, left_out)


def from_timm_saver(narrow: int) -> Source:
    network = randomise(narrowed(timm.create_model("resnet18"), narrow))
    average = ModelEmaV3(plain(18, narrow))

    def save(folder: Path) -> Path:
        saver = CheckpointSaver(
            network, trained(network), model_ema=average, checkpoint_dir=str(folder)
        )
        saver.save_checkpoint(0, metric=71.5)
        return folder / "last.pth.tar"  # a zip, in spite of its name

    beside = {"epoch", "arch", "optimizer", "version", "state_dict_ema", "metric", "saver"}
    left_out = counters(network.state_dict()) | beside
    return torch_source(network, 18, {"zip": save}, left_out)


# --- Hugging Face --------------------------------------------------------------------------------


def from_transformers(depth: int, narrow: int, variant: str = "v1.5") -> Source:
    """`downsample_in_bottleneck` puts the stride into the first 1x1, as in v1."""
    basic = depth < 50
    channels = 64 // narrow
    config = ResNetConfig(
        embedding_size=channels,
        depths=[2, 2, 2, 2] if basic else [3, 4, 6, 3],
        hidden_sizes=[channels * 2**i * (1 if basic else 4) for i in range(4)],
        layer_type="basic" if basic else "bottleneck",
        downsample_in_bottleneck=variant == "v1",
        num_labels=1000 // narrow,
    )
    network = randomise(ResNetForImageClassification(config))
    state = network.state_dict()

    def folder_of(folder: Path) -> Path:
        network.save_pretrained(folder)
        processor().save_pretrained(folder)
        return folder

    return Source(
        torch_run(network),
        {
            "folder": folder_of,
            "safetensors": lambda folder: folder_of(folder) / "model.safetensors",
            "zip": zipped(state),
            "legacy": legacy(state),
        },
        names="huggingface",
        depth=depth,
        variant=variant,
        tells=("folder",),
        bn_eps=1e-5,
        left_out=counters(state),
    )


def processor() -> ConvNextImageProcessor:
    """The preprocessing that is published with microsoft/resnet-50."""
    return ConvNextImageProcessor(
        size={"shortest_edge": 224},
        crop_pct=0.875,
        resample=3,
        image_mean=list(TORCHVISION.mean),
        image_std=list(TORCHVISION.std),
    )


# --- Keras ---------------------------------------------------------------------------------------


def keras_source(model: keras.Model, depth: int) -> Source:
    def save(ending: str) -> Save:
        def write(folder: Path) -> Path:
            path = folder / f"a.{ending}"
            if ending == "weights.h5":
                model.save_weights(path)
            else:
                model.save(path)
            return path

        return write

    def legacy_weights(folder: Path) -> Path:
        keras_resnet.save_legacy_weights(model, folder / "a.h5")
        return folder / "a.h5"

    return Source(
        lambda images: keras_resnet.keras_logits(model, images),
        {
            "h5": legacy_weights,
            "whole h5": save("h5"),
            "weights.h5": save("weights.h5"),
            "keras": save("keras"),
        },
        names="keras",
        depth=depth,
        variant="v1",
        tells=("h5", "whole h5", "weights.h5", "keras"),
        bn_eps=1.001e-5,
        left_out=frozenset(),
    )


def narrowed_keras(model: keras.Model, narrow: int) -> keras.Model:
    """The same with one `narrow`-th of all channels, but for the image's."""

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        for count in config.keys() & {"filters", "units"}:
            config[count] //= narrow
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


def keras_network(size: int, narrow: int, depth: int = 50, top: bool = True) -> keras.Model:
    network = getattr(keras.applications, f"ResNet{depth}")(
        weights=None,
        include_top=top,
        pooling="avg",
        classifier_activation=None,
        input_shape=(size, size, 3),
    )
    return narrowed_keras(network, narrow) if narrow > 1 else network


def from_keras(size: int, narrow: int, depth: int = 50, top: bool = True) -> Source:
    network = keras_network(size, narrow, depth, top)
    keras_resnet.randomise(network)
    return keras_source(network, depth)


def from_nested_keras(size: int, narrow: int, frozen: bool) -> Source:
    """The usual fine-tuning model: a trunk as one layer, a head behind it."""
    trunk = keras_network(size, narrow, top=False)
    trunk.trainable = not frozen
    layers = [keras.layers.Input((size, size, 3)), trunk]
    layers += [keras.layers.Dropout(0.5), keras.layers.Dense(13)]
    whole = keras.Sequential(layers)
    keras_resnet.randomise(whole)
    return keras_source(whole, 50)


# --- all of them ---------------------------------------------------------------------------------

# row of the table -> its network, made for the size of images (Keras' are for one size) and with
# one n-th of the channels
SOURCES: dict[str, Callable[[int, int], Source]] = {
    "torchvision ResNet-18": lambda size, narrow: from_torchvision(18, narrow),
    "torchvision ResNet-50": lambda size, narrow: from_torchvision(50, narrow),
    "timm resnet18": lambda size, narrow: from_timm(18, narrow),
    "timm resnet50": lambda size, narrow: from_timm(50, narrow),
    "timm CheckpointSaver": lambda size, narrow: from_timm_saver(narrow),
    **{name: lambda size, narrow, name=name: from_checkpoint(name, narrow) for name in CHECKPOINTS},
    "checkpoint: module.backbone.": lambda size, narrow: from_backbone(narrow),
    "transformers ResNet-18": lambda size, narrow: from_transformers(18, narrow),
    "transformers ResNet-50": lambda size, narrow: from_transformers(50, narrow),
    "transformers ResNet-50 v1": lambda size, narrow: from_transformers(50, narrow, "v1"),
    "Keras ResNet50": from_keras,
    "Keras ResNet50, no top": partial(from_keras, top=False),
    "Keras ResNet50 in a Sequential": partial(from_nested_keras, frozen=False),
    "Keras ResNet50 in a Sequential, frozen": partial(from_nested_keras, frozen=True),
    "Keras ResNet101": partial(from_keras, depth=101),
}
