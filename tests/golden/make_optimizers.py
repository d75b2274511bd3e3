"""Write optimizers.npz: the weights after each of 10 steps of PyTorch's optimizers.

    python tests/golden/make_optimizers.py

Two groups, the second with a learning rate of its own; starts and gradients are in the file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

STEPS = 10
SECOND_LR = 0.05
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD plain": ("SGD", {"lr": 0.1}),
    "SGD decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "SGD momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "SGD nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "RMSprop plain": ("RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "RMSprop momentum": (
        "RMSprop", {"lr": 0.01, "momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1}
    ),
    "Adam": ("Adam", {"lr": 0.02}),
    "Adam decay": ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    "AdamW": ("AdamW", {"lr": 0.02}),
    "AdamW decay": ("AdamW", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.3}),
}  # fmt: skip


def main() -> None:
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (5,))]
    gradients = [rng.standard_normal((STEPS, *w.shape)).astype(np.float32) for w in start]
    arrays: dict[str, Any] = {f"start {i}": w for i, w in enumerate(start)}
    arrays |= {f"gradient {i}": g for i, g in enumerate(gradients)}
    for name, (kind, options) in CASES.items():
        weights = [torch.nn.Parameter(torch.tensor(w)) for w in start]
        groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": SECOND_LR}]
        optimizer = getattr(torch.optim, kind)(groups, **options)
        history: list[list[np.ndarray]] = [[], []]
        for step in range(STEPS):
            for i, w in enumerate(weights):
                w.grad = torch.tensor(gradients[i][step])
            optimizer.step()
            for i, w in enumerate(weights):
                history[i].append(w.detach().numpy().copy())
        arrays |= {f"{name} {i}": np.stack(h) for i, h in enumerate(history)}
    np.savez_compressed(Path(__file__).with_name("optimizers.npz"), **arrays)


if __name__ == "__main__":
    main()
