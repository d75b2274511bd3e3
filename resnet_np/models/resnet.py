"""ResNet 18 to 152, as Table 1 of He et al. 2016, "Deep residual learning for image recognition".

    stage    output     18 and 34               50, 101 and 152
    stem     112 x 112  7x7, 64, stride 2; then 3x3 max pool, stride 2 (to 56 x 56)
    layer1   56 x 56    [3x3 64,  3x3 64 ]      [1x1 64,  3x3 64,  1x1 256 ]
    layer2   28 x 28    [3x3 128, 3x3 128]      [1x1 128, 3x3 128, 1x1 512 ]
    layer3   14 x 14    [3x3 256, 3x3 256]      [1x1 256, 3x3 256, 1x1 1024]
    layer4   7 x 7      [3x3 512, 3x3 512]      [1x1 512, 3x3 512, 1x1 2048]
    pool     1 x 1      mean over the image
    fc                  the head

Every convolution is followed by batch norm; each [...] block adds its input to its output in front
of the last ReLU. The first block of layer2, 3 and 4 halves the image. In v1 (the paper, Keras) its
first 1x1 convolution has the stride; in v1.5 (torchvision, NVIDIA) the 3x3 has, which sees every
pixel and is a little better. The shapes of the weights are the same, so a file cannot tell.

Parameters are named as in torchvision: `layer1.0.conv1.weight`, `layer1.0.downsample.0.weight`.
"""

from functools import partial
from typing import Any, Literal, Self

import numpy as np

from resnet_np.autograd import Tensor
from resnet_np.errors import UserError
from resnet_np.nn import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    Identity,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from resnet_np.plan import Part, PlanCache
from resnet_np.weights.contract import Contract

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "pool", "fc")
SMALLEST_IMAGE = 32

Variant = Literal["v1", "v1.5"]
VARIANTS = ("v1.5", "v1")


class _Recipe:
    """How one network makes its layers: what all of its convolutions and batch norms share."""

    def __init__(
        self, variant: Variant, conv_bias: bool, eps: float, momentum: float, seed: int
    ) -> None:
        self.stride_on_1x1 = variant == "v1"
        self.conv_bias, self.eps, self.momentum = conv_bias, eps, momentum
        self.rng = np.random.default_rng(seed)

    def conv(self, channels: int, out: int, size: int, stride: int = 1) -> Conv2d:
        padding = size // 2
        return Conv2d(channels, out, size, stride, padding, self.conv_bias, rng=self.rng)

    def norm(self, channels: int) -> BatchNorm2d:
        return BatchNorm2d(channels, self.eps, self.momentum)

    def shortcut(self, channels: int, out: int, stride: int) -> Module:
        """Identity where the shapes agree, else a 1x1 convolution (option B of the paper)."""
        if channels == out and stride == 1:
            return Identity()
        return Sequential(self.conv(channels, out, 1, stride), self.norm(out))


class BasicBlock(Module):
    """Two 3x3 convolutions and the shortcut: the paper's figure 5, left."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, make: _Recipe) -> None:
        self.conv1 = make.conv(channels, width, 3, stride)
        self.bn1 = make.norm(width)
        self.conv2 = make.conv(width, width, 3)
        self.bn2 = make.norm(width)
        self.downsample = make.shortcut(channels, width, stride)
        self.bn2.weight.data[:] = 0  # see Bottleneck

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x), relu=True)
        return self.bn2(self.conv2(y), residual=self.downsample(x), relu=True)


class Bottleneck(Module):
    """1x1 down to `width` channels, 3x3, 1x1 up to 4 * width, and the shortcut: figure 5, right."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, make: _Recipe) -> None:
        first, second = (stride, 1) if make.stride_on_1x1 else (1, stride)
        self.conv1 = make.conv(channels, width, 1, first)
        self.bn1 = make.norm(width)
        self.conv2 = make.conv(width, width, 3, second)
        self.bn2 = make.norm(width)
        self.conv3 = make.conv(width, 4 * width, 1)
        self.bn3 = make.norm(4 * width)
        self.downsample = make.shortcut(channels, 4 * width, stride)
        # Each block starts as its shortcut alone, so that a deep network starts as a shallow one
        # (Goyal et al. 2017, section 5.1).
        self.bn3.weight.data[:] = 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x), relu=True)
        y = self.bn2(self.conv2(y), relu=True)
        return self.bn3(self.conv3(y), residual=self.downsample(x), relu=True)


class ResNet(Module):
    """A residual network for images [N, H, W, 3] of 32 pixels or more.

    Parameters
    ----------
    depth : 18, 34, 50, 101 or 152
    variant : "v1.5" (torchvision's) or "v1" (the paper's and Keras', bottleneck depths only)
    num_classes, include_top : size of the head; without the top the output is the pooled features
    pooling : "avg", "max", or None, which needs include_top=False and gives [N, H/32, W/32, C]
    head : hidden layers in front of the last one, as in (512,); each with ReLU and dropout
    dropout : probability, in front of the last layer and after each hidden one
    width : factor for all channel counts
    conv_bias, bn_eps, bn_momentum : Keras' networks have biases, 1.001e-5 and (in this convention,
        the share of the new batch) 0.01
    seed : of the initialisation (He et al. 2015) and of dropout

    Weights bring what is known of them: `contract`, the input that they expect, which every batch
    of images is checked against, and `classes`, the names of the logits. Both are None before. Set
    `contract` where a file says nothing about its own; None checks nothing.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        variant: Variant = "v1.5",
        num_classes: int = 1000,
        include_top: bool = True,
        pooling: Literal["avg", "max"] | None = "avg",
        head: tuple[int, ...] = (),
        dropout: float = 0.0,
        width: float = 1.0,
        conv_bias: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.config: dict[str, Any] = {
            "depth": depth, "variant": variant, "num_classes": num_classes,
            "include_top": include_top, "pooling": pooling, "head": list(head),
            "dropout": dropout, "width": width, "conv_bias": conv_bias, "bn_eps": bn_eps,
            "bn_momentum": bn_momentum, "seed": seed,
        }  # fmt: skip
        self.contract: Contract | None = None
        self.classes: tuple[str, ...] | None = None
        self.plans = PlanCache()
        _check(depth, variant, include_top, pooling, width)
        _check_head(num_classes, head, dropout)
        block = Bottleneck if depth >= 50 else BasicBlock
        make = _Recipe(variant, conv_bias, bn_eps, bn_momentum, seed)

        channels = round(64 * width)
        self.conv1 = make.conv(3, channels, 7, stride=2)
        self.bn1 = make.norm(channels)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        for i, blocks in enumerate(BLOCKS[depth]):
            planes, layers = round(64 * 2**i * width), []
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                layers.append(block(channels, planes, stride, make))
                channels = planes * block.expansion
            setattr(self, f"layer{i + 1}", Sequential(*layers))
        self.pool = {"avg": GlobalAvgPool, "max": GlobalMaxPool, None: Identity}[pooling]()
        self.features = channels
        self.fc = (
            make_head(channels, num_classes, head, dropout, make.rng) if include_top else Identity()
        )

    def check_images(self, x: Tensor, checked: bool = False) -> None:
        """Raise UserError unless these can be images [N, H, W, 3] as the contract wants them."""
        if x.ndim != 4 or x.shape[3] != 3 or min(x.shape[1:3]) < SMALLEST_IMAGE:
            raise UserError(
                f"ResNet: images must be [N, H, W, 3] with H and W of at least {SMALLEST_IMAGE}, "
                f"not {list(x.shape)}"
            )
        if self.contract is not None and not checked:
            self.contract.check(x.data)

    def stem(self, x: Tensor) -> Tensor:
        """[N, H, W, 3] -> [N, H/4, W/4, 64]."""
        return self.maxpool(self.bn1(self.conv1(x), relu=True))

    def forward(
        self, x: Tensor, start: str = "stem", stop: str | None = None, checked: bool = False
    ) -> Tensor:
        """The stages from `start` up to, and without, `stop`; all of them by default.

        model(x, stop="fc") are the features [N, C], and model(features, start="fc") the logits.

        checked : the images come from the contract's `normalise`, so nobody needs to look at them
            again; on a GPU, a look is a wait
        """
        stages = STAGES[_index(start) : None if stop is None else _index(stop)]
        if "stem" in stages:
            self.check_images(x, checked)
        return self.plans.run([self.part(stage) for stage in stages], x)

    def part(self, stage: str) -> Part:
        """A stage, as a plan sees it."""
        modules = {name: getattr(self, name) for name in _modules_of((stage,))}
        return Part(getattr(self, stage), modules)

    def freeze(self, *names: str) -> Self:
        """As `Module.freeze`, by the names of stages or modules."""
        return super().freeze(*_modules_of(names))

    def unfreeze(self, *names: str) -> Self:
        """As `Module.unfreeze`, by the names of stages or modules."""
        return super().unfreeze(*_modules_of(names))

    def freeze_before(self, stage: str) -> None:
        """Freeze every stage in front of this one, and unfreeze it and all behind it."""
        before = STAGES[: _index(stage)]
        self.unfreeze()
        for frozen in before:
            self.freeze(frozen)

    def frozen_prefix(self) -> str | None:
        """The first stage that is not frozen as a whole; None if all are."""
        modules = dict(self.named_modules())
        for stage in STAGES:
            if not all(modules[name].frozen for name in _modules_of((stage,))):
                return stage
        return None


def _index(stage: str) -> int:
    """The place of a stage among the others."""
    if stage not in STAGES:
        raise UserError(f"there is no stage {stage!r}: the stages are {', '.join(STAGES)}")
    return STAGES.index(stage)


def _modules_of(names: tuple[str, ...]) -> list[str]:
    """Stages and modules by the names of modules: the stem is three of them."""
    stem = ["conv1", "bn1", "maxpool"]
    return [module for name in names for module in (stem if name == "stem" else [name])]


def make_head(
    features: int, classes: int, hidden: tuple[int, ...], dropout: float, rng: np.random.Generator
) -> Module:
    """[N, features] -> [N, classes]: one linear layer, or several with ReLU and dropout between."""
    layers: list[Module] = []
    for size in hidden:
        layers += [Linear(features, size, rng=rng), ReLU(), Dropout(dropout, rng=rng)]
        features = size
    if dropout and not hidden:
        layers.append(Dropout(dropout, rng=rng))
    last = Linear(features, classes, rng=rng)
    return Sequential(*layers, last) if layers else last


def _check(depth: int, variant: str, include_top: bool, pooling: str | None, width: float) -> None:
    if depth not in BLOCKS:
        raise UserError(f"depth must be one of {', '.join(map(str, BLOCKS))}, not {depth}")
    if variant not in ("v1", "v1.5") or (variant == "v1" and depth < 50):
        raise UserError(
            f'variant must be "v1.5", or "v1" for depth 50 and more, not {variant!r} for {depth}'
        )
    if pooling not in ("avg", "max", None) or (pooling is None and include_top):
        raise UserError(
            f'pooling must be "avg" or "max", or None with include_top=False, not {pooling!r}'
        )
    if round(64 * width) < 1:
        raise UserError(f"width must leave at least one channel, not {width}")


def _check_head(classes: int, hidden: tuple[int, ...], dropout: float) -> None:
    if min([classes, *hidden]) < 1:
        raise UserError(
            f"num_classes and the sizes in head must be at least 1, not {classes} and {hidden}"
        )
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be in [0, 1), not {dropout}")


resnet18 = partial(ResNet, 18)
resnet34 = partial(ResNet, 34)
resnet50 = partial(ResNet, 50)
resnet101 = partial(ResNet, 101)
resnet152 = partial(ResNet, 152)
