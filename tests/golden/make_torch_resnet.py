"""Make torch_resnet.npz: two training steps of a narrow ResNet-50, as PyTorch computes them.

    python tests/golden/make_torch_resnet.py

Weights and images come from `numbers_by_name.py` and are not stored. Stored, all float64: each
stage's output in evaluation and in training mode, the two losses, some gradients of the first step,
all running statistics after the second, and some parameters after it.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "compare")]
from numbers_by_name import labels, numbers  # noqa: E402
from parity import channels_first, channels_last, our_layout, torch_layout  # noqa: E402
from torch_bridge import from_torch, gradients_from_torch  # noqa: E402
from torch_resnet import TorchResNet  # noqa: E402

DEPTH, WIDTH, CLASSES, BATCH, PIXELS = 50, 0.125, 10, 4, 32
STEPS, LR, MOMENTUM, DECAY = 2, 0.05, 0.9, 1e-4
# One of each kind, at both ends and in the middle: a wrong one further up shows in those below.
KEPT = (
    "conv1.weight",
    "bn1.weight",
    "bn1.bias",
    "layer1.0.downsample.0.weight",
    "layer2.0.conv2.weight",
    "layer3.5.conv1.weight",
    "layer4.0.downsample.1.bias",
    "layer4.2.bn2.weight",
    "fc.weight",
    "fc.bias",
)


def images(step: int) -> torch.Tensor:
    return torch.from_numpy(channels_first(numbers(f"images{step}", (BATCH, PIXELS, PIXELS, 3))))


def filled_network() -> TorchResNet:
    network = TorchResNet(DEPTH, width=WIDTH, num_classes=CLASSES).double()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                ours = numbers(name, our_layout(value.numpy()).shape)
                value.copy_(torch.from_numpy(torch_layout(ours)))
    return network


def stage_outputs(network: TorchResNet, mode: str) -> dict[str, np.ndarray]:
    with torch.no_grad():
        stages = dict(network.stages(images(0)))
    return {f"{mode}/{name}": channels_last(y.numpy()) for name, y in stages.items()}


def main() -> None:
    kept: dict[str, Any] = stage_outputs(filled_network().eval(), "eval")
    kept |= stage_outputs(filled_network().train(), "train")
    network = filled_network().train()
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        targets = torch.from_numpy(labels(f"targets{step}", BATCH, CLASSES))
        loss = torch.nn.functional.cross_entropy(network(images(step)), targets)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = gradients_from_torch(network)
            kept |= {f"gradient/{name}": gradients[name] for name in KEPT}
        optimizer.step()
        losses.append(loss.item())
    after = from_torch(network)
    kept |= {f"after/{n}": after[n] for n in after if n in KEPT or "running" in n}
    kept["losses"] = np.array(losses)
    kept["torch_version"] = np.array(torch.__version__)
    kept["network"] = np.array([DEPTH, WIDTH, CLASSES, BATCH, PIXELS])
    kept["sgd"] = np.array([LR, MOMENTUM, DECAY])
    np.savez_compressed(HERE / "torch_resnet.npz", **kept)
    print(f"{len(kept)} arrays, losses {losses}")


main()
