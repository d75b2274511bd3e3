"""Does training here do what it does in PyTorch, step by step?

    python benchmarks/acceptance/05_training_parity.py

ResNet-50, 64 pixels, batch 8, five steps of SGD with momentum, from the same weights and batches,
here and with torchvision's network; then the same with stages frozen. Bounds are on the relative
error max|a - b| / max|b| of the five losses and of each running mean and variance after them:

    float64, learning rate 0.01                               losses 1e-5, statistics 1e-5
    float32, learning rate 0.01, last gammas zero at first    losses 1e-4, statistics 1e-3

(Plain float32 through 50 batch norms differs by percents even between two layouts of PyTorch.)
Frozen parameters and statistics must be the same before and after, bit for bit, and what is still
trained must equal PyTorch's, where "frozen" takes no gradients and batch norms in evaluation mode.
Exits with 1 if anything is out of bounds. A few minutes; needs torch and torchvision.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import resnet_np as rnp
from resnet_np import ResNet, Tensor, optim

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "compare")]
import torch  # noqa: E402
from parity import relative_error  # noqa: E402
from torch_bridge import copy_to_torch, from_torch, images_to_torch  # noqa: E402
from torchvision_shim import torchvision  # noqa: E402

STEPS, BATCH, PIXELS, CLASSES, MOMENTUM, DECAY = 5, 8, 64, 10, 0.9, 1e-4
State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """`trained_from` is the first stage that is not frozen; "stem" freezes nothing."""

    name: str
    dtype: Any
    lr: float
    zero_gamma: bool
    loss_bound: float
    state_bound: float
    trained_from: str = "stem"


FLOAT64 = (np.float64, 0.01, False, 1e-5, 1e-5)
CASES = (
    Case("float64", *FLOAT64),
    Case("float32, zero gammas", np.float32, 0.01, True, 1e-4, 1e-3),
    Case("float64, frozen before layer1", *FLOAT64, "layer1"),
    Case("float64, frozen before layer3", *FLOAT64, "layer3"),
    Case("float64, frozen before layer4", *FLOAT64, "layer4"),
    Case("float64, frozen before fc", *FLOAT64, "fc"),
)


def batches(dtype: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (
            rng.standard_normal((BATCH, PIXELS, PIXELS, 3)).astype(dtype),
            rng.integers(0, CLASSES, BATCH),
        )
        for _ in range(STEPS)
    ]


def first_model(case: Case) -> ResNet:
    """Initialised, with statistics that are not the trivial 0 and 1."""
    model = rnp.resnet50(num_classes=CLASSES)
    rng = np.random.default_rng(1)
    for name, array in model.state_dict().items():
        if name.endswith("running_mean"):
            array[:] = 0.1 * rng.standard_normal(array.shape)
        elif name.endswith("running_var"):
            array[:] = rng.uniform(0.5, 1.5, array.shape)
        elif name.endswith("bn3.weight") and not case.zero_gamma:
            array[:] = 1
    model.to(case.dtype)
    model.freeze_before(case.trained_from)
    return model


def train_here(model: ResNet, case: Case) -> list[float]:
    optimizer = optim.SGD(model.parameters(), case.lr, MOMENTUM, weight_decay=DECAY)
    losses = []
    for images, targets in batches(case.dtype):
        loss = rnp.cross_entropy(model(Tensor(images)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def freeze_in_torch(network: torch.nn.Module, case: Case) -> None:
    """No gradient and fixed statistics for every child in front of the first trained stage."""
    network.train()
    for name, child in network.named_children():
        if name == case.trained_from or case.trained_from == "stem":
            return
        child.requires_grad_(False)
        child.eval()


def train_in_torch(network: torch.nn.Module, case: Case) -> list[float]:
    freeze_in_torch(network, case)
    optimizer = torch.optim.SGD(network.parameters(), case.lr, MOMENTUM, weight_decay=DECAY)
    losses = []
    for images, targets in batches(case.dtype):
        logits = network(images_to_torch(images))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def frozen_names(model: ResNet) -> set[str]:
    """Parameters and statistics of the modules that are frozen."""
    return {
        f"{path}.{leaf}"
        for path, module in model.named_modules()
        if module.frozen and path
        for leaf in module.state_dict()
    }


def run(case: Case) -> bool:
    """Train both, print the figures, and say whether all are within bounds."""
    model, network = first_model(case), torchvision.models.resnet50(num_classes=CLASSES)
    network.to(torch.float64 if case.dtype == np.float64 else torch.float32)
    copy_to_torch(model, network)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    losses, expected = train_here(model, case), train_in_torch(network, case)
    ours, theirs, frozen = model.state_dict(), from_torch(network), frozen_names(model)

    loss_error = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
    statistics = largest_error(ours, theirs, lambda name: "running" in name)
    parameters = largest_error(ours, theirs, lambda name: "running" not in name)
    changed = [name for name in frozen if ours[name].tobytes() != before[name].tobytes()]
    unchanged = [n for n in ours if n not in frozen and (ours[n] == before[n]).all()]
    print(f"{case.name}: losses {' '.join(f'{loss:.4f}' for loss in losses)}")
    print(f"  relative error: losses {loss_error:.1e} (allowed {case.loss_bound:.0e}), "
          f"statistics {statistics:.1e} (allowed {case.state_bound:.0e}), "
          f"parameters {parameters:.1e}")  # fmt: skip
    print(f"  frozen: {len(frozen)} tensors, {len(changed)} of them changed; "
          f"trained: {len(ours) - len(frozen)}, {len(unchanged)} of them unchanged")  # fmt: skip
    within = loss_error <= case.loss_bound and statistics <= case.state_bound
    if case.trained_from != "stem":
        within = within and parameters <= case.state_bound
    return within and not changed and not unchanged


def largest_error(ours: State, theirs: State, wanted: Any) -> float:
    return max(relative_error(ours[name], theirs[name]) for name in ours if wanted(name))


def main() -> int:
    return 0 if all([run(case) for case in CASES]) else 1


if __name__ == "__main__":
    sys.exit(main())
