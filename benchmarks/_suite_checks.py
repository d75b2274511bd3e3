"""The parts of `gpu_suite.py` that check: is what the card computes right?"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from _suite import ROOT, Row, Run

import resnet_np as rnp
from resnet_np import Tensor, kernels, optim
from resnet_np.data.digits import load_digits_images
from resnet_np.device import activation_dtype, to_device
from resnet_np.errors import UserError
from resnet_np.kernels import to_host

CLASSES, MOMENTUM = 10, 0.9
Arrays = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]

# --- pytest --------------------------------------------------------------------------------------


def tests(run: Run) -> Iterator[Row]:
    return pytest_on_card(run.folder, "tests", "--ignore=tests/gradcheck")


def gradients(run: Run) -> Iterator[Row]:
    """Each op, module and whole small networks, in float64."""
    return pytest_on_card(run.folder, "tests/gradcheck")


def pytest_on_card(folder: Path, *where: str) -> Iterator[Row]:
    """The tests that are marked as in need of a card. That none of them ran would be wrong.

    A file that cannot be read for want of a package counts as an error, and the others run. A
    warning, of a new CuPy say, is no failure here.
    """
    report = folder / f"{Path(where[0]).name}.xml"
    options = ["-m", "gpu", "-v", "--tb=short", "-rs", "-p", "no:cacheprovider", "-W", "default"]
    options += ["--continue-on-collection-errors", f"--junitxml={report}"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *where], cwd=ROOT)
    if not report.exists():
        raise UserError("pytest left no report: `pip install -e '.[test]'` brings what it needs")
    found = next(ElementTree.parse(report).iter("testsuite")).attrib
    counts = {name: int(found[name]) for name in ("tests", "failures", "errors", "skipped")}
    ran = counts["tests"] > counts["skipped"]
    yield {**counts, "passed": done.returncode == 0 and ran}


# --- training steps ------------------------------------------------------------------------------


class Trainer:
    """A network that takes steps of SGD with momentum on a device, in a precision.

    In "fp64" all is float64, and the last batch norm of each block, which begins with zero, with
    one: else what is before it would hardly have a gradient.
    """

    def __init__(self, device: str, precision: str, lr: float, **network: Any) -> None:
        self.device, self.precision = device, precision
        self.dtype = np.dtype("f8") if precision == "fp64" else activation_dtype(precision)
        self.model = rnp.ResNet(num_classes=CLASSES, **network)
        if precision == "fp64":
            self.model.to(np.float64)
            for name, p in self.model.named_parameters():
                if p.ndim == 1 and name.endswith("weight"):
                    p.data[...] = 1
        self.model.to(device)
        self.optimizer = optim.SGD(self.model.parameters(), lr, MOMENTUM)
        self.scaler = optim.LossScaler() if precision == "fp16" else None

    def step(self, batch: Batch) -> float:
        """The loss before the step."""
        images, targets = batch
        x = Tensor(to_device(images.astype(self.dtype), self.device))
        with kernels.using_precision("tf32" if self.precision == "tf32" else "fp32"):
            logits = self.model(x).astype(kernels.parameter_dtype(self.dtype))
            loss = rnp.cross_entropy(logits, to_device(targets, self.device))
            self.optimizer.zero_grad()
            if self.scaler:
                self.scaler.backward(loss)
                self.scaler.step(self.optimizer)
            else:
                loss.backward()
                self.optimizer.step()
        return loss.item()

    def observed(self, batch: Batch) -> dict[str, Arrays]:
        """What a step leads to, by kind and name."""
        loss, parameters = self.step(batch), list(self.model.named_parameters())
        return {
            "losses": {"": np.array(loss)},
            "statistics": {name: to_host(b).copy() for name, b in self.model.named_buffers()},
            "parameters": {name: to_host(p.data).copy() for name, p in parameters},
            "gradients": {name: to_host(p.grad).copy() for name, p in parameters},
        }


def noise(steps: int, batch: int, pixels: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [
        (
            rng.standard_normal((batch, pixels, pixels, 3), np.float32),
            rng.integers(0, CLASSES, batch),
        )
        for _ in range(steps)
    ]


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / |b|, both as vectors; 0 if they are the same, infinite if one is no number."""
    difference = float(np.linalg.norm(a - b))
    if not np.isfinite(difference):
        return float("inf")
    return difference / float(np.linalg.norm(b)) if difference else 0.0


# --- CPU and card --------------------------------------------------------------------------------

PARITY_STEPS, PARITY_BATCH, PARITY_PIXELS, PARITY_LR = 5, 16, 64, 0.001
PARITY_NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("fp32", {"depth": 50}),
    ("fp64", {"depth": 50, "width": 0.25}),
    ("fp64", {"depth": 18, "width": 0.25}),
)
ALLOWED_ERROR = 1e-4
ALLOWED_IN_FLOAT32 = 0.05  # of all gradients together, see `parity`


def parity(run: Run) -> Iterator[Row]:
    """Losses, running statistics, parameters and gradients in each step.

    On both sides from the same weights; the CPU computes with `kernels/array.py`. In float32 a
    number within rounding of zero may pass a ReLU on one side and not on the other, and that
    changes gradients by up to percents, whoever computes them (so do two versions of the CPU's
    kernels). In float64 that does not happen: there each single gradient is held to the bound.
    """
    for precision, network in PARITY_NETWORKS:
        worst: dict[str, float] = {}
        cpu, card = (Trainer(device, precision, PARITY_LR, **network) for device in ("cpu", "gpu"))
        for batch in noise(PARITY_STEPS, PARITY_BATCH, PARITY_PIXELS):
            expected, got = cpu.observed(batch), card.observed(batch)
            for name, error in step_errors(got, expected).items():
                worst[name] = max(worst.get(name, 0.0), error)
        bounds = dict.fromkeys(worst, ALLOWED_ERROR)
        if precision == "fp32":
            bounds |= {"gradients": ALLOWED_IN_FLOAT32, "worst single gradient": np.inf}
        row = {"precision": precision, "network": " ".join(f"{k} {v}" for k, v in network.items())}
        passed = all(worst[name] <= bound for name, bound in bounds.items())
        yield row | worst | {"steps": PARITY_STEPS, "passed": passed}


def step_errors(got: dict[str, Arrays], expected: dict[str, Arrays]) -> dict[str, float]:
    def worst(kind: str) -> float:
        return max(relative_error(got[kind][name], a) for name, a in expected[kind].items())

    def together(kind: str) -> float:
        """Of all arrays as one vector."""
        vectors = (np.concatenate([a.ravel() for a in of[kind].values()]) for of in (got, expected))
        return relative_error(*vectors)

    return {
        "losses": worst("losses"),
        "statistics": worst("statistics"),
        "parameters": together("parameters"),
        "gradients": together("gradients"),
        "worst single gradient": worst("gradients"),
    }


# --- fewer digits --------------------------------------------------------------------------------

MIXED_STEPS, MIXED_BATCH, MIXED_PIXELS, MIXED_LR = 50, 256, 64, 0.003
MIXED_NETWORK = {"depth": 18, "width": 0.25}
ALLOWED_IN_CURVE = 0.02


def mixed(run: Run) -> Iterator[Row]:
    """Loss curves on scikit-learn's digits beside float32's, averaged over tenths of the steps."""
    expected = loss_curve("fp32")
    yield {"precision": "fp32", "first": expected[0], "last": expected[-1], "curve": expected}
    for precision in ("bf16", "fp16"):
        got = loss_curve(precision)
        error = max(
            relative_error(*map(np.array, pair)) for pair in zip(got, expected, strict=True)
        )
        row = {"precision": precision, "first": got[0], "last": got[-1], "curve": got}
        yield row | {"off by": error, "passed": error <= ALLOWED_IN_CURVE}


def loss_curve(precision: str) -> list[float]:
    images, labels, _ = load_digits_images(MIXED_PIXELS)
    trainer, losses = Trainer("gpu", precision, MIXED_LR, **MIXED_NETWORK), []
    for step in range(MIXED_STEPS):
        rows = np.arange(step * MIXED_BATCH, (step + 1) * MIXED_BATCH) % len(images)
        losses.append(trainer.step((images[rows] / np.float32(127.5) - 1, labels[rows])))
    return [float(part.mean()) for part in np.array_split(losses, 10)]


# --- the same again ------------------------------------------------------------------------------

REPEATED_STEPS, REPEATED_BATCH, REPEATED_PIXELS = 3, 32, 224


def determinism(run: Run) -> Iterator[Row]:
    """ResNet-50 from the same weights, twice: parameters and statistics, to the bit."""
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        first, second = (state_after_steps(precision) for _ in range(2))
        different = [name for name in first if first[name].tobytes() != second[name].tobytes()]
        row: Row = {"precision": precision, "steps": REPEATED_STEPS, "tensors": len(first)}
        yield row | {"different": len(different), "passed": not different}


def state_after_steps(precision: str) -> dict[str, np.ndarray]:
    trainer = Trainer("gpu", precision, 0.01, depth=50)
    for batch in noise(REPEATED_STEPS, REPEATED_BATCH, REPEATED_PIXELS):
        trainer.step(batch)
    return {name: to_host(array) for name, array in trainer.model.state_dict().items()}
