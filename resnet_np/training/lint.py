"""Known mistakes in a recipe, named before the work begins. They stop nothing: one may mean it."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from resnet_np.data.loader import FolderImages, Images, ResizedImages
from resnet_np.data.transforms import KerasAffine, RandomHorizontalFlip, RandomRotation, parse
from resnet_np.errors import some
from resnet_np.models.resnet import SMALLEST_IMAGE
from resnet_np.nn import Module
from resnet_np.optim import Optimizer
from resnet_np.training.options import Options

LOOKED_AT = 32  # images whose size is looked at
SIDED = set("0123456789") | set("abcdefghijklmnopqrstuvwxyz") | {
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "left", "right",
}  # fmt: skip
"""Names of classes that a mirror makes another class of, or none: signs that people read."""


def examine(options: Options, splits: Mapping[str, Images]) -> list[str]:
    """A line for each mistake: what is wrong, and what would be right."""
    return [
        *unfreezing_without_care(options.by_phase()),
        *tested_on_what_was_chosen_by(splits),
        *small_images(splits["train"]),
        *mirrored_signs(options, splits["train"].classes),
    ]


def frozen_parameters(model: Module, optimizer: Optimizer) -> list[str]:
    """The mistake of an optimizer that holds frozen parameters, which never change.

    Options cannot make it (`Options.make_optimizer`), a program can.
    """
    held = {id(p) for group in optimizer.groups for p in group["params"]}
    named = model.named_parameters()
    frozen = [name for name, p in named if id(p) in held and not p.requires_grad]
    if not frozen:
        return []
    return [
        f"the optimizer holds frozen parameters, which will not change: {some(frozen)}; give it "
        "those that require a gradient"
    ]


def unfreezing_without_care(phases: Sequence[Options]) -> list[str]:
    """Stages that know something already are trained no more carefully than a new head."""
    found = []
    for phase in phases:
        lr, _ = phase.learning_rates()
        from_weights = phase.weights is not None or phase.model is None
        head_lr = phases[0].learning_rates()[1]
        if phase.unfreeze != "fc" and from_weights and lr >= head_lr > 0:
            found.append(
                f"{phase.unfreeze} is unfrozen with a learning rate of {lr:g}, no lower than the "
                f"head's at first ({head_lr:g}): what the weights know may be lost; leave --lr "
                "out, or give the head another one with --head-lr"
            )
    return found


def tested_on_what_was_chosen_by(splits: Mapping[str, Images]) -> list[str]:
    """Test images by which epochs, rates and weights are chosen say nothing about new ones."""
    files = {
        name: {os.path.realpath(path) for path in images.paths}
        for name, images in splits.items()
        if isinstance(images, FolderImages)
    }
    both = files.get("validation", set()) & files.get("test", set())
    if not both:
        return []
    return [
        f"{len(both)} of the {len(files['test'])} test images are used for validation, too: what "
        "is chosen by them is judged by them; take other images for one of the two"
    ]


def small_images(images: Images) -> list[str]:
    """Most of what the network sees would be made up by the resizing."""
    sides = _sides(images)
    if not sides or (side := int(np.median(sides))) > images.size // 2:
        return []
    smaller = max(SMALLEST_IMAGE, side)
    factor = (images.size / smaller) ** 2
    if factor < 2:
        return []
    return [
        f"images of {side} pixels are shown to the network as {images.size}: {factor:.0f} times "
        f"the work of --image-size {smaller}, for pixels that are made up; weights that were "
        f"trained at {images.size} may be worth it, random ones are not"
    ]


def _sides(images: Images) -> list[int]:
    """The shorter sides of some images, as they are before they are brought to size."""
    from PIL import Image

    if isinstance(images, ResizedImages):
        return [min(images.images.shape[1:3])]
    if not isinstance(images, FolderImages):
        return []
    sides = []
    for i in np.linspace(0, len(images.paths) - 1, LOOKED_AT).astype(int):
        try:
            with Image.open(images.paths[i]) as image:
                sides.append(min(image.size))
        except Exception:  # whoever reads it will say what is wrong
            continue
    return sides


def mirrored_signs(options: Options, classes: Sequence[str]) -> list[str]:
    """A mirrored 3 is no 3, and a 6 upside down is a 9."""
    signs = [name for name in classes if name.lower() in SIDED]
    if options.augment is None or 2 * len(signs) < len(classes):
        return []
    turning = [
        step for step in parse(options.augment)
        if isinstance(step, RandomHorizontalFlip)
        or (isinstance(step, KerasAffine) and step.rotation_range >= 90)
        or (isinstance(step, RandomRotation) and np.max(np.abs(step.degrees)) >= 90)
    ]  # fmt: skip
    if not turning:
        return []
    return [
        f"{type(turning[0]).__name__} makes other signs of classes such as {some(signs)}; leave it "
        "out of --augment"
    ]
