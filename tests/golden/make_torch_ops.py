"""Make torch_ops.npz: small inputs and outputs of the ops, as PyTorch computes them in float64.

    python tests/golden/make_torch_ops.py

An array is called "<case>/<what>"; `cases` holds the arguments of each case as JSON. Layouts are
ours: images [N, H, W, C], convolutions [R, S, C, K].
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- everyone's name for it

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from numbers_by_name import labels, numbers  # noqa: E402
from parity import channels_first, channels_last, our_layout, torch_layout  # noqa: E402

WINDOWS: dict[str, list[dict[str, Any]]] = {
    "conv2d": [
        {"image": [8, 8], "size": [1, 1], "stride": [1, 1], "padding": [0, 0]},
        {"image": [9, 7], "size": [1, 1], "stride": [2, 2], "padding": [0, 0]},
        {"image": [8, 8], "size": [3, 3], "stride": [1, 1], "padding": [1, 1]},
        {"image": [9, 8], "size": [3, 3], "stride": [2, 2], "padding": [1, 1]},
        {"image": [12, 13], "size": [7, 7], "stride": [2, 2], "padding": [3, 3]},
        {"image": [10, 9], "size": [2, 5], "stride": [3, 1], "padding": [0, 2]},
    ],
    "max_pool2d": [
        {"image": [8, 8], "size": [2, 2], "stride": [2, 2], "padding": [0, 0]},
        {"image": [9, 8], "size": [3, 3], "stride": [2, 2], "padding": [1, 1]},
        {"image": [7, 10], "size": [2, 3], "stride": [1, 2], "padding": [1, 0]},
    ],
    "avg_pool2d": [
        {"image": [8, 8], "size": [2, 2], "stride": [2, 2], "padding": [0, 0]},
        {"image": [9, 8], "size": [3, 3], "stride": [2, 2], "padding": [1, 1]},
        {"image": [7, 10], "size": [2, 3], "stride": [1, 2], "padding": [1, 0]},
    ],
}
ROWS, CLASSES = 6, 5
ENTROPIES: list[dict[str, Any]] = [
    {},
    {"weighted": True},
    {"label_smoothing": 0.1},
    {"weighted": True, "label_smoothing": 0.2, "ignored": 2},
    {"weighted": True, "label_smoothing": 0.2, "ignored": 2, "reduction": "sum"},
    {"weighted": True, "label_smoothing": 0.2, "ignored": 2, "reduction": "none"},
    {"probabilities": True, "weighted": True, "label_smoothing": 0.1},
]


def leaf(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


def grad(x: torch.Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad.numpy()


def window(case: str, op: str, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """A convolution or a pooling, and its gradients for a random gy."""
    shape = (2, *options["image"], 3)
    x = leaf(channels_first(numbers(f"{case}/x", shape)))
    w = leaf(torch_layout(numbers(f"{case}/weight", (*options["size"], 3, 4))))
    b = leaf(numbers(f"{case}/b", (4,)))
    where = options["stride"], options["padding"]
    if op == "conv2d":
        y = F.conv2d(x, w, b, *where)
    elif op == "max_pool2d":
        y = F.max_pool2d(x, options["size"], *where)
    else:
        y = F.avg_pool2d(x, options["size"], *where, count_include_pad=False)
    gy = numbers(f"{case}/gy", channels_last(y.detach().numpy()).shape)
    y.backward(torch.from_numpy(channels_first(gy)))
    kept = {"x": x.detach().numpy(), "gy": channels_first(gy), "y": y.detach().numpy()}
    kept = {name: channels_last(a) for name, a in (kept | {"gx": grad(x)}).items()}
    if op == "conv2d":
        kept |= {"w": our_layout(w.detach().numpy()), "b": b.detach().numpy()}
        kept |= {"gw": our_layout(grad(w)), "gb": grad(b)}
    return kept


def cross_entropy(case: str, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """A loss and its gradient by the logits."""
    logits = leaf(3 * numbers(f"{case}/logits", (ROWS, CLASSES)))
    targets = torch.from_numpy(labels(f"{case}/targets", ROWS, CLASSES))
    if "probabilities" in options:
        targets = torch.softmax(torch.from_numpy(numbers(f"{case}/t", (ROWS, CLASSES))), dim=1)
    if "ignored" in options:
        targets[options["ignored"]] = -1
    weights = numbers("class.weight", (CLASSES,)) if "weighted" in options else None
    loss = F.cross_entropy(
        logits,
        targets,
        None if weights is None else torch.from_numpy(weights),
        ignore_index=-1,
        label_smoothing=options.get("label_smoothing", 0.0),
        reduction=options.get("reduction", "mean"),
    )
    gy = numbers(f"{case}/gy", (ROWS,)) if loss.ndim else np.ones(())
    loss.backward(torch.from_numpy(gy))
    kept = {"logits": logits.detach().numpy(), "targets": targets.numpy(), "gy": gy}
    if weights is not None:
        kept["weights"] = weights
    return kept | {"loss": loss.detach().numpy(), "glogits": grad(logits)}


def batch_norm(case: str, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """One training call of a layer: output, gradients, and what it did to the statistics."""
    layer = torch.nn.BatchNorm2d(4, eps=options["eps"], momentum=options["momentum"]).double()
    with torch.no_grad():
        for name, value in layer.named_parameters():
            value.copy_(torch.from_numpy(numbers(f"{case}.{name}", (4,))))
        for name in ("running_mean", "running_var"):
            getattr(layer, name).copy_(torch.from_numpy(numbers(f"{case}.{name}", (4,))))
    before = {name: value.numpy().copy() for name, value in layer.state_dict().items()}
    x = leaf(channels_first(1 + 2 * numbers(f"{case}/x", (3, 5, 4, 4))))
    layer.train(options["training"])
    y = layer(x)
    gy = channels_first(numbers(f"{case}/gy", (3, 5, 4, 4)))
    y.backward(torch.from_numpy(gy))
    kept = {"x": x.detach().numpy(), "y": y.detach().numpy(), "gy": gy, "gx": grad(x)}
    kept = {name: channels_last(array) for name, array in kept.items()}
    kept |= {f"before.{name}": value for name, value in before.items() if value.ndim}
    kept |= {f"after.{n}": getattr(layer, n).numpy() for n in ("running_mean", "running_var")}
    return kept | {"gweight": grad(layer.weight), "gbias": grad(layer.bias)}


def main() -> None:
    cases: dict[str, dict[str, Any]] = {}
    kept: dict[str, Any] = {}

    def keep(case: str, options: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        cases[case] = options
        kept.update({f"{case}/{name}": array for name, array in arrays.items()})

    for op, variants in WINDOWS.items():
        for i, options in enumerate(variants):
            keep(f"{op}-{i}", options, window(f"{op}-{i}", op, options))
    for i, options in enumerate(ENTROPIES):
        keep(f"cross_entropy-{i}", options, cross_entropy(f"cross_entropy-{i}", options))
    for i, training in enumerate((True, False)):
        options = {"eps": 1e-3, "momentum": 0.3, "training": training}
        keep(f"batch_norm-{i}", options, batch_norm(f"batch_norm-{i}", options))
    kept |= {"cases": np.array(json.dumps(cases)), "torch_version": np.array(torch.__version__)}
    np.savez_compressed(HERE / "torch_ops.npz", **kept)
    print(f"{len(cases)} cases, {len(kept)} arrays")


main()
