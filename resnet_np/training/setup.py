"""From the options of a run to a network with its weights, and to labelled images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnet_np import weights
from resnet_np.data.cifar import is_cifar10, load_cifar10
from resnet_np.data.class_names import read_class_names
from resnet_np.data.digits import load_digits_images
from resnet_np.data.folders import HELD_OUT, split_stratified
from resnet_np.data.loader import ArrayImages, FolderImages, Images, ResizedImages
from resnet_np.data.sources import scan
from resnet_np.data.transforms import parse, split_steps
from resnet_np.errors import UserError
from resnet_np.models.pretrained import LoadReport, load_weights
from resnet_np.models.resnet import ResNet, Variant
from resnet_np.training.options import Options
from resnet_np.training.rates import make_schedule
from resnet_np.weights import TORCHVISION, Contract, WeightFile
from resnet_np.weights.locating import locate

EMBEDDED = Path(weights.__file__).with_name("glyphs_resnet50_w025.npz")

# --model: depth, and where a down-sampling block has its stride.
MODELS: dict[str, tuple[int, Variant]] = {
    f"resnet{depth}": (depth, "v1.5") for depth in (18, 34, 50, 101, 152)
} | {f"resnet{depth}-v1": (depth, "v1") for depth in (50, 101, 152)}

KERAS_MOMENTUM = 0.01  # Keras' 0.99 is the share of the old statistics, ours that of the new ones
OF_THE_HEAD = ("num_classes", "include_top", "head", "dropout", "seed")  # those of a new network


@dataclass(frozen=True)
class Source:
    """Where the network comes from, before the number of classes is known.

    file: the weights, or None for a network to be trained from scratch.
    config: arguments of ResNet. image_size: the side of the square images.
    """

    file: WeightFile | None
    config: dict[str, Any]
    contract: Contract
    image_size: int


def check_options(options: Options) -> None:
    """Raise UserError, before any work, for options that contradict each other or say nothing."""
    phases = options.by_phase()
    if options.recalibrate and all(phase.unfreeze == "fc" for phase in phases):
        raise UserError(
            "--recalibrate: belongs to batch norms that are trained; say --unfreeze layer4, or a "
            "stage before it, or leave it out"
        )
    if options.names is not None and (options.data is None or is_cifar10(options.data)):
        raise UserError("--names: these images bring the names of their classes; leave it out")
    if options.names is not None:
        read_class_names(options.names)
    if options.views and options.augment is None:
        raise UserError("--views: needs --augment, whose views it counts")
    if options.augment is not None:
        try:
            _, mixing = split_steps(parse(options.augment))
        except UserError as error:
            raise UserError(f"--augment: {error}") from None
        if mixing and options.views:
            raise UserError(
                f"--views: {mixing[0]} mixes the images of each batch anew, so there are no "
                "features to keep; leave one of the two out"
            )
    if options.momentum is not None and options.optimizer.startswith("adam"):
        raise UserError(f"--momentum: {options.optimizer} has none; sgd and rmsprop have one")
    for phase in phases:
        make_schedule(phase.schedule, phase.warmup, phase.epochs, steps=1000)


def find_source(options: Options) -> Source:
    """Read the weights that the options name. Raises UserError where they contradict each other."""
    source = _from_scratch(options) if _begins_at_random(options) else _from_weights(options)
    if options.fit is None:
        return source
    return replace(source, contract=replace(source.contract, fit=options.fit))


def _begins_at_random(options: Options) -> bool:
    return options.weights is None and options.model is not None


def _from_weights(options: Options) -> Source:
    file = weights.read(EMBEDDED if options.weights is None else locate(options.weights))
    size = options.image_size or (file.record or {}).get("image_size") or file.contract.crop
    config = network_config(file, options.model, options.variant)
    return Source(file, config, file.contract, size)


def network_config(file: WeightFile, model: str | None, variant: str | None) -> dict[str, Any]:
    """The arguments of ResNet, but those of its head, for the network in a file.

    model, variant: what --model and --variant say. Raises UserError where they contradict the file
    or each other, and where nobody tells the variant or the epsilon.
    """
    depth, told = _find_architecture(file, model, variant)
    if file.bn_eps is None:
        raise UserError(
            f"{file.path}: cannot tell the epsilon of its batch norms (convolutions with biases are"
            " Keras', 1.001e-05 or, in its first files, 0.001): give the Keras file, or build"
            " ResNet(..., bn_eps=...) in a program and use load_weights"
        )
    config = {
        "depth": depth,
        "variant": told,
        "width": file.arrays["conv1.weight"].shape[3] / 64,  # the stem of a full network has 64
        "conv_bias": file.conv_bias,
        "bn_eps": file.bn_eps,
        "bn_momentum": KERAS_MOMENTUM if file.source == "keras" else 0.1,
    }
    # What one of our checkpoints was built with is known, down to what no tensor shows.
    built = dict((file.record or {}).get("model", {}))
    return config | {k: v for k, v in built.items() if k not in OF_THE_HEAD}


def _from_scratch(options: Options) -> Source:
    assert options.model is not None
    if options.by_phase()[0].unfreeze != "stem":
        raise UserError(
            f"--model {options.model} needs --weights FILE; "
            "to train from random weights instead, say --unfreeze stem"
        )
    if options.recalibrate:
        raise UserError(
            "--recalibrate: belongs to weights that were trained before; leave it out, or name "
            "some with --weights FILE"
        )
    depth, variant = MODELS[options.model]
    _check_named(options.model, options.variant)
    config = {"depth": depth, "variant": variant}
    return Source(None, config, TORCHVISION, options.image_size or TORCHVISION.crop)


def _find_architecture(
    file: WeightFile, model: str | None, variant: str | None
) -> tuple[int, Variant]:
    if file.depth is None:
        raise UserError(f"{file.path}: its blocks are those of no ResNet 18, 34, 50, 101 or 152")
    if model is not None:
        depth, named = MODELS[model]
        if depth != file.depth or file.variant not in (None, named):
            raise UserError(f"{file.path}: holds {_kind(file)}, not the {model} of --model")
        _check_named(model, variant)
        return depth, named
    if file.depth < 50 and variant == "v1":
        raise UserError(f"--variant v1: begins with ResNet-50; {file.path} holds {_kind(file)}")
    if variant is not None and file.variant not in (None, variant):
        raise UserError(f"{file.path}: holds {_kind(file)}, not the {variant} of --variant")
    known = file.variant or variant or ("v1.5" if file.depth < 50 else None)
    if known is None:
        raise UserError(
            f"{file.path}: cannot tell ResNet v1.5 from v1 (the tensors have the same shapes); say "
            "--variant v1.5 (torchvision's, timm's, Hugging Face's) or --variant v1 (Keras')"
        )
    return file.depth, cast(Variant, known)


def _kind(file: WeightFile) -> str:
    return f"a ResNet-{file.depth}" + (f" {file.variant}" if file.variant else "")


def _check_named(model: str, variant: str | None) -> None:
    """Raise UserError if --variant says another one than the name of the model."""
    named = MODELS[model][1]
    if variant not in (None, named):
        raise UserError(f"--variant {variant}: contradicts --model {model}, which is {named}")


def build_model(source: Source, classes: int, options: Options) -> tuple[ResNet, LoadReport | None]:
    """The network with a new head for this number of classes, and what the weights gave to it.

    The head's first values follow from --seed alone: `ResNet(..., seed=seed)` draws them.
    """
    try:
        model = ResNet(
            **source.config,
            num_classes=classes,
            head=options.head,
            dropout=options.dropout,
            seed=options.seed,
        )
    except (TypeError, ValueError) as error:  # a checkpoint's record may say anything
        raise UserError(f"{options.weights}: cannot build its network: {error}") from error
    if source.file is None:
        return model, None
    return model, load_weights(model, source.file, replace_head=True)


def load_splits(options: Options, contract: Contract, image_size: int) -> dict[str, Images]:
    """The images by split: "train", "validation" and, unless the folder has none, "test".

    Those that a table gives no label are in none of them.
    """
    rng = np.random.default_rng([options.seed, 1])  # apart from the generator of the batch order
    if options.data is None:
        return _split_digits(image_size, rng)
    if is_cifar10(options.data):
        return {
            name: ResizedImages(part.images, part.labels, part.classes, contract, image_size)
            for name, part in load_cifar10(options.data, rng).items()
        }
    parts = scan(options.data, rng)
    if options.names is not None:
        called = read_class_names(options.names).readable(parts["train"].classes)
        parts = {name: replace(part, classes=called) for name, part in parts.items()}
    names = ("train", "validation", "test")
    return {
        name: FolderImages(parts[name], contract, image_size) for name in names if name in parts
    }


def _split_digits(size: int, rng: np.random.Generator) -> dict[str, Images]:
    images, labels, classes = load_digits_images(size)
    rest, test = split_stratified(labels, HELD_OUT, rng)
    kept, held_out = split_stratified(labels[rest], HELD_OUT / (1 - HELD_OUT), rng)
    parts = {"train": rest[kept], "validation": rest[held_out], "test": test}
    return {
        name: ArrayImages(images[indices], labels[indices], tuple(classes))
        for name, indices in parts.items()
    }


def find_class_weights(
    text: str | None, labels: np.ndarray, classes: tuple[str, ...]
) -> np.ndarray | None:
    """What --class-weights says: float32 [K], or None. Raises UserError for anything else.

    balanced: N / (K * the class's images), as in scikit-learn; their mean over the images is 1.
    """
    if text is None:
        return None
    if text == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        return (len(labels) / (len(classes) * counts)).astype(np.float32)
    try:
        weights = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        weights = np.array([np.nan], np.float32)
    if len(weights) != len(classes) or not (np.isfinite(weights) & (weights > 0)).all():
        raise UserError(
            f"--class-weights {text}: must be balanced, or {len(classes)} numbers above 0, one for "
            f"each class: {', '.join(classes)}"
        )
    return weights
