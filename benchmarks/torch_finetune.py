"""Fine-tune torchvision's ResNet-50 on class folders, as a PyTorch script does: what ours is timed
against.

    python benchmarks/torch_finetune.py --data FOLDER --weights FILE.npz [--channels-last] [--cache]

FOLDER has train/, val/ and test/ with class folders in them; FILE has torchvision's names. The
trunk is frozen, in evaluation mode and without gradients; the head is new and learns by Adam. Every
epoch reads and computes all training and validation images again; with --cache only the first one
does, and their features are kept. The last line is JSON: the accuracy on the test images.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "compare"))
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision_shim import torchvision

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


def make_loaders(data: Path, batch_size: int) -> dict[str, DataLoader]:
    """Images from their files by torchvision's transforms, on a process for each core."""
    t = torchvision.transforms
    transform = t.Compose(
        [
            t.Resize(256),
            t.CenterCrop(224),
            t.ToTensor(),
            t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    return {
        split: DataLoader(
            torchvision.datasets.ImageFolder(data / split, transform),
            batch_size,
            shuffle=split == "train",
            num_workers=len(os.sched_getaffinity(0)),
            persistent_workers=True,
        )
        for split in ("train", "val", "test")
    }


def make_trunk(weights: Path, memory_format: torch.memory_format) -> nn.Module:
    """Everything but the head, frozen."""
    network = torchvision.models.resnet50()
    with np.load(weights) as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    network.load_state_dict(state, strict=False)  # but num_batches_tracked, which some files lack
    network.fc = nn.Identity()
    network.requires_grad_(False)
    return network.eval().to(memory_format=memory_format)


def compute_features(
    trunk: nn.Module, loader: DataLoader, memory_format: torch.memory_format
) -> Batches:
    """Nothing in it has a gradient, so PyTorch keeps nothing for the way back."""
    for images, labels in loader:
        yield trunk(images.to(memory_format=memory_format)), labels


def train(head: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches) -> None:
    for features, labels in batches:
        loss = nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def accuracy(head: nn.Module, batches: Batches) -> float:
    right = count = 0
    with torch.no_grad():
        for features, labels in batches:
            right += int((head(features).argmax(1) == labels).sum())
            count += len(labels)
    return right / count


def cached(batches: Batches, batch_size: int, shuffle: bool) -> DataLoader:
    """The same features in every epoch, in other batches."""
    features, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    dataset = torch.utils.data.TensorDataset(features, labels)
    return DataLoader(dataset, batch_size, shuffle=shuffle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--cache", action="store_true", help="compute each image's features once")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    loaders = make_loaders(args.data, args.batch_size)
    trunk = make_trunk(args.weights, memory_format)
    head = nn.Linear(2048, len(loaders["train"].dataset.classes))
    optimizer = torch.optim.Adam(head.parameters(), args.lr)

    def features(split: str) -> Batches:
        return compute_features(trunk, loaders[split], memory_format)

    if args.cache:
        kept = {s: cached(features(s), args.batch_size, s == "train") for s in ("train", "val")}
    for epoch in range(args.epochs):
        train(head, optimizer, kept["train"] if args.cache else features("train"))
        right = accuracy(head, kept["val"] if args.cache else features("val"))
        print(f"epoch {epoch + 1}: validation accuracy {right:.4f}", flush=True)
    print(json.dumps({"accuracy": accuracy(head, features("test"))}))


if __name__ == "__main__":
    main()
