"""Images changed at random, so that a network never sees the same picture twice.

Names and arguments are torchvision's (`torchvision.transforms`), except KerasAffine, which has
those of Keras' ImageDataGenerator. Every transform is plain data, and all its randomness comes from
the generator that it is handed:

    train = Compose([RandomResizedCrop(224), RandomHorizontalFlip()])
    view = train(image, image_rng(seed, epoch, index))      # uint8 [H, W, 3] -> uint8 [224, 224, 3]

What is drawn depends on (seed, epoch, index) alone: not on the batch, the order of reading, or the
number of threads.

    base.py      how a transform is called, the seeds, the checks of arguments
    geometry.py  Resize, CenterCrop, RandomResizedCrop, RandomHorizontalFlip, RandomRotation,
                 KerasAffine, RandomErasing
    colour.py    ColorJitter, RandAugment
    mixing.py    MixUp, CutMix: two images of a batch become one
    naming.py    a transform from its name and its arguments
"""

from resnet_np.data.transforms.base import Compose, Transform, batch_rng, image_rng
from resnet_np.data.transforms.colour import ColorJitter, RandAugment
from resnet_np.data.transforms.geometry import (
    CenterCrop,
    KerasAffine,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
)
from resnet_np.data.transforms.mixing import BatchTransform, CutMix, MixUp
from resnet_np.data.transforms.naming import TRANSFORMS, make, parse, split_steps

__all__ = [
    "TRANSFORMS", "BatchTransform", "CenterCrop", "ColorJitter", "Compose", "CutMix", "KerasAffine",
    "MixUp", "RandAugment", "RandomErasing", "RandomHorizontalFlip", "RandomResizedCrop",
    "RandomRotation", "Resize", "Transform", "batch_rng", "image_rng", "make", "parse",
    "split_steps",
]  # fmt: skip
