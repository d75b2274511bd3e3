"""Fine-tune torchvision's ResNet-50 in two phases, as a PyTorch script does: the head, then layer4,
too.

    python benchmarks/torch_phases.py --data FOLDER --weights FILE.npz [--stretch] [--seeds 0 1 2]

FOLDER has train/ and test/ with class folders in them; FILE has torchvision's names, and batch-norm
statistics that belong to it. What is frozen in both phases, everything up to layer3, is computed
once for each image, in channels last, and kept. The last line is JSON: for each seed the accuracy
on the test images and the seconds of training, and the seconds that the features took.
"""

import argparse
import json
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch_finetune import torchvision

Kept = tuple[torch.Tensor, torch.Tensor]


def make_network(weights: Path, classes: int) -> nn.Module:
    """The pretrained network with a new head."""
    network = torchvision.models.resnet50()
    with np.load(weights) as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all("num_batches_tracked" in name for name in missing), missing
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network.to(memory_format=torch.channels_last)


def compute_features(network: nn.Module, folder: Path, stretch: bool) -> Kept:
    """What layer4 is shown of each image, and the labels."""
    t = torchvision.transforms
    shape = [t.Resize((224, 224))] if stretch else [t.Resize(256), t.CenterCrop(224)]
    normalise = t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    images = torchvision.datasets.ImageFolder(folder, t.Compose([*shape, t.ToTensor(), normalise]))
    trunk = nn.Sequential(*list(network.children())[:-3]).eval()  # all before layer4
    found, labels = [], []
    with torch.no_grad():
        for x, y in torch.utils.data.DataLoader(images, 32, num_workers=2):
            found.append(trunk(x.to(memory_format=torch.channels_last)))
            labels.append(y)
    return torch.cat(found), torch.cat(labels)


def train(
    model: nn.Module, parameters: list[nn.Parameter], lr: float, kept: Kept, epochs: int
) -> None:
    """Adam, batches of 32 in a new order in each epoch."""
    optimizer = torch.optim.Adam(parameters, lr)
    dataset = torch.utils.data.TensorDataset(*kept)
    for _ in range(epochs):
        for x, y in torch.utils.data.DataLoader(dataset, 32, shuffle=True):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def in_chunks(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(32)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Two phases of fine-tuning, in PyTorch.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--stretch", action="store_true", help="the whole image, as a square")
    parser.add_argument("--epochs", type=int, nargs=2, default=(5, 3), help="of the two phases")
    parser.add_argument("--lr", type=float, nargs=2, default=(0.003, 0.0001), help="of the two")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()

    classes = sum(path.is_dir() for path in (args.data / "train").iterdir())
    pretrained = make_network(args.weights, classes)
    began = time.perf_counter()
    kept = {s: compute_features(pretrained, args.data / s, args.stretch) for s in ("train", "test")}
    pool = nn.Sequential(pretrained.avgpool, nn.Flatten())
    frozen = nn.Sequential(pretrained.layer4, pool).eval()
    pooled = in_chunks(frozen, kept["train"][0]), kept["train"][1]
    record = {"features": time.perf_counter() - began, "seconds": [], "accuracy": []}
    for seed in args.seeds:
        torch.manual_seed(seed)
        began = time.perf_counter()
        layer4, head = deepcopy(pretrained.layer4), nn.Linear(pooled[0].shape[1], classes)
        train(head, list(head.parameters()), args.lr[0], pooled, args.epochs[0])
        model = nn.Sequential(layer4, pool, head).train()
        both = [*layer4.parameters(), *head.parameters()]
        train(model, both, args.lr[1], kept["train"], args.epochs[1])
        right = in_chunks(model.eval(), kept["test"][0]).argmax(1) == kept["test"][1]
        record["accuracy"].append(float(right.float().mean()))
        record["seconds"].append(time.perf_counter() - began)
        print(f"seed {seed}: test accuracy {record['accuracy'][-1]:.4f}", flush=True)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
