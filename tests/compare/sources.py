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

from resnet_np import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import TORCHVISION, WeightFile, read

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "golden")]
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


def imported(source: Source, format: str) -> WeightFile:
    """What is read here from the framework's file, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return read(source.save[format](Path(folder)))


def wrong_facts(source: Source, format: str, file: WeightFile) -> list[str]:
    """What a reader has found out wrongly about a file."""
    variant = source.variant if format in source.tells else None
    keras_like = source.names == "keras"
    expected = {
        "format": FORMATS[format],
        "source": source.names,
        "depth": source.depth,
        "variant": variant,
        "bn_eps": source.bn_eps,
        "conv_bias": keras_like,
        "color": "BGR" if keras_like else "RGB",
        "left_out": source.left_out,
        "folded_statistics": False,
        "without reason": [],
    }
    found = {
        **{fact: getattr(file, fact, None) for fact in expected},
        "color": file.contract.color,
        "left_out": frozenset(file.left_out),
        "without reason": [name for name, reason in file.left_out.items() if not reason],
    }
    return [
        f"{fact} is {found[fact]!r}, not {value!r}"
        for fact, value in expected.items()
        if found[fact] != value
    ]


def our_output(source: Source, file: WeightFile, images: np.ndarray) -> np.ndarray:
    """What our network computes with the file, after the preprocessing that the file asks for."""
    head = file.arrays.get("fc.weight")
    model = ResNet(
        source.depth,
        variant=source.variant,  # type: ignore[arg-type]
        num_classes=1 if head is None else head.shape[1],
        include_top=head is not None,
        width=file.arrays["conv1.weight"].shape[3] / 64,
        conv_bias=file.conv_bias,
        bn_eps=source.bn_eps,
    )
    report = load_weights(model, file, replace_head=False)
    assert not report.missing and set(report.used) == set(file.arrays)
    model.eval()
    with no_grad():
        return model(Tensor(file.contract.normalise(images))).numpy()


def error(source: Source, file: WeightFile, images: np.ndarray, expected: np.ndarray) -> float:
    """The largest max|a - b| / max|b| of any image."""
    ours = our_output(source, file, images)
    return max(relative_error(a, b) for a, b in zip(ours, expected, strict=True))


def noise(count: int, size: int) -> np.ndarray:
    """Images of random bytes."""
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


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


def from_torchvision(depth: int) -> Source:
    network = randomise(getattr(torchvision.models, f"resnet{depth}")())
    state = network.state_dict()
    makers = {"zip": zipped, "legacy": legacy, "tar": tar, "safetensors": safetensors, "npz": npz}
    save = {format: maker(state) for format, maker in makers.items()}
    return torch_source(network, depth, save, counters(state))


def from_timm(depth: int) -> Source:
    network = randomise(timm.create_model(f"resnet{depth}"))
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


def small_network() -> torch.nn.Module:
    return torchvision.models.resnet18(num_classes=10)


def in_parallel(network: torch.nn.Module) -> dict[str, Any]:
    return torch.nn.DataParallel(network).state_dict()


def as_attribute(network: torch.nn.Module) -> dict[str, Any]:
    return InAClass("model", network, head=False).state_dict()


def averaged(network: torch.nn.Module) -> dict[str, Any]:
    return AveragedModel(network).state_dict()


# row of the table -> (the entry that holds the weights, what is in it)
CHECKPOINTS: dict[str, tuple[str | None, Callable[[torch.nn.Module], dict[str, Any]]]] = {
    "checkpoint: DataParallel": (None, in_parallel),
    "checkpoint: AveragedModel": (None, averaged),
    "checkpoint: state_dict of DataParallel": ("state_dict", in_parallel),
    "checkpoint: state_dict of a class": ("state_dict", as_attribute),
    "checkpoint: model": ("model", torch.nn.Module.state_dict),
    "checkpoint: model_state_dict": ("model_state_dict", torch.nn.Module.state_dict),
}


def from_checkpoint(name: str) -> Source:
    """ResNet-18 as training scripts save it: wrapped, prefixed, beside other things."""
    network = randomise(small_network())
    wrapper, state_of = CHECKPOINTS[name]
    state = state_of(network)
    beside = of_training(network) if wrapper else {}
    saved = {wrapper: state, **beside} if wrapper else state
    left_out = counters(state) | ({"n_averaged"} & set(state)) | set(beside)
    save = {"zip": zipped(saved), "legacy": legacy(saved)}
    return torch_source(network, 18, save, left_out)


def of_training(network: torch.nn.Module) -> dict[str, Any]:
    """What lies beside the weights in a checkpoint; the average is another network's."""
    optimizer = trained(network)
    return {
        "epoch": 89,
        "arch": "resnet18",
        "best_acc1": torch.tensor(71.5),
        "args": argparse.Namespace(lr=0.5, data_path=Path("imagenet")),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
        "model_ema": averaged(small_network()),
    }


def trained(network: torch.nn.Module) -> torch.optim.Optimizer:
    """An optimizer with all the state that a step leaves behind; its rate of 0 changes nothing."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def from_backbone() -> Source:
    """Pooled features: the head of the class is none of the ResNet."""
    whole = randomise(InAClass("backbone", small_network(), head=True))
    state = torch.nn.DataParallel(whole).state_dict()
    head = {"module.classifier.weight", "module.classifier.bias"}
    save = {"zip": zipped(state), "legacy": legacy(state)}
    left_out = counters(state) | head
    return torch_source(whole.backbone, 18, save, left_out)


def from_timm_saver() -> Source:
    network = randomise(timm.create_model("resnet18", num_classes=10))
    average = ModelEmaV3(small_network())

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


def from_transformers(depth: int, variant: str = "v1.5") -> Source:
    """`downsample_in_bottleneck` puts the stride into the first 1x1, as in v1."""
    basic = depth < 50
    config = ResNetConfig(
        depths=[2, 2, 2, 2] if basic else [3, 4, 6, 3],
        hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        layer_type="basic" if basic else "bottleneck",
        downsample_in_bottleneck=variant == "v1",
        num_labels=1000,
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


def from_keras(size: int, depth: int = 50, top: bool = True) -> Source:
    model = getattr(keras.applications, f"ResNet{depth}")(
        weights=None,
        include_top=top,
        pooling="avg",
        classifier_activation=None,
        input_shape=(size, size, 3),
    )
    keras_resnet.randomise(model)
    return keras_source(model, depth)


def from_nested_keras(size: int, frozen: bool) -> Source:
    """The usual fine-tuning model: a trunk as one layer, a head behind it."""
    trunk = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
    )
    trunk.trainable = not frozen
    layers = [keras.layers.Input((size, size, 3)), trunk]
    layers += [keras.layers.Dropout(0.5), keras.layers.Dense(13)]
    whole = keras.Sequential(layers)
    keras_resnet.randomise(whole)
    return keras_source(whole, 50)


# --- all of them ---------------------------------------------------------------------------------

# row of the table -> the network; Keras' are built for images of one size
SOURCES: dict[str, Callable[[int], Source]] = {
    "torchvision ResNet-18": lambda size: from_torchvision(18),
    "torchvision ResNet-50": lambda size: from_torchvision(50),
    "timm resnet18": lambda size: from_timm(18),
    "timm resnet50": lambda size: from_timm(50),
    "timm CheckpointSaver": lambda size: from_timm_saver(),
    **{name: lambda size, name=name: from_checkpoint(name) for name in CHECKPOINTS},
    "checkpoint: module.backbone.": lambda size: from_backbone(),
    "transformers ResNet-18": lambda size: from_transformers(18),
    "transformers ResNet-50": lambda size: from_transformers(50),
    "transformers ResNet-50 v1": lambda size: from_transformers(50, "v1"),
    "Keras ResNet50": from_keras,
    "Keras ResNet50, no top": partial(from_keras, top=False),
    "Keras ResNet50 in a Sequential": partial(from_nested_keras, frozen=False),
    "Keras ResNet50 in a Sequential, frozen": partial(from_nested_keras, frozen=True),
    "Keras ResNet101": partial(from_keras, depth=101),
}
