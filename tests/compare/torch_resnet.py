"""ResNets in torch.nn, for what torchvision's cannot be: narrow, v1, or with biases.

Parameter names are torchvision's, and with width 1 and the defaults so is the network (a test
compares the two).
"""

from collections.abc import Iterator

import torch
from torch import nn

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Block(nn.Module):
    """A list of (kernel size, output channels, stride), the shortcut around it, then ReLU."""

    def __init__(
        self, channels: int, convs: list[tuple[int, int, int]], bias: bool, eps: float
    ) -> None:
        super().__init__()
        self.count = len(convs)
        stride, c = 1, channels
        for i, (size, k, step) in enumerate(convs, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(c, k, size, step, size // 2, bias=bias))
            setattr(self, f"bn{i}", nn.BatchNorm2d(k, eps=eps))
            stride, c = stride * step, k
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or c != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, c, 1, stride, bias=bias), nn.BatchNorm2d(c, eps=eps)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.count:
                y = torch.relu(y)
        return torch.relu(y + self.downsample(x))


class TorchResNet(nn.Module):
    """The same arguments as `resnet_np.ResNet`."""

    def __init__(
        self,
        depth: int,
        variant: str = "v1.5",
        num_classes: int = 1000,
        width: float = 1.0,
        conv_bias: bool = False,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        c = round(64 * width)
        self.conv1 = nn.Conv2d(3, c, 7, 2, 3, bias=conv_bias)
        self.bn1 = nn.BatchNorm2d(c, eps=bn_eps)
        for stage, count in enumerate(BLOCKS[depth], start=1):
            k, blocks = round(64 * 2 ** (stage - 1) * width), []
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                convs = _block(depth, variant, k, stride)
                blocks.append(Block(c, convs, conv_bias, bn_eps))
                c = convs[-1][1]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(c, num_classes)

    def stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Each stage's name and output: stem, layer1 ... layer4, pool, fc."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        yield "stem", x
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, name)(x)
            yield name, x
        x = x.mean(dim=(2, 3))
        yield "pool", x
        yield "fc", self.fc(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return dict(self.stages(x))["fc"]


def _block(depth: int, variant: str, k: int, stride: int) -> list[tuple[int, int, int]]:
    """(size, output channels, stride) of a block's convolutions."""
    if depth < 50:
        return [(3, k, stride), (3, k, 1)]
    first, second = (stride, 1) if variant == "v1" else (1, stride)
    return [(1, k, first), (3, k, second), (1, 4 * k, 1)]
