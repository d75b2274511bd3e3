"""The head, then layer4: what the scripts share that compare this with PyTorch."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from resnet_np import weights
from resnet_np.training.features import ImageInputs, Trunk
from resnet_np.training.options import Options
from resnet_np.training.recalibrate import check_statistics
from resnet_np.training.setup import build_model, find_source, load_splits

TORCH = Path(__file__).parents[1] / "torch_phases.py"
SEEDS = (0, 1, 2)


@dataclass
class Found:
    """Of each seed: the share of right answers on the test images, and the seconds it took."""

    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.1%}" for share in self.accuracy)
        minutes = ", ".join(f"{seconds / 60:.1f}" for seconds in self.seconds)
        return f"{shares}; minutes: {minutes}"

    @property
    def mean(self) -> float:
        return sum(self.accuracy) / len(self.accuracy)


def unfold(source: Path, data: Path, fit: str, target: Path) -> Path:
    """The same weights with statistics of these images in layer4, for both programs to train.

    Those that lie here have theirs folded away. No feature changes by it.
    """
    options = Options(
        data=str(data), weights=str(source), model="resnet50", fit=fit, unfreeze="layer4",
        recalibrate=True,
    )  # fmt: skip
    found = find_source(options)
    train = load_splits(options, found.contract, found.image_size)["train"]
    model, _ = build_model(found, len(train.classes), options)
    model.freeze_before("layer4")
    inputs = ImageInputs(train, Trunk(model, "layer4", found.contract, "cpu"))
    check_statistics(model, "layer4", inputs, options)
    file = found.file
    assert file is not None
    new = {n: a for n, a in model.state_dict().items() if n.startswith("layer4")}
    weights.write(target, replace(file, variant="v1.5", arrays=file.arrays | new))
    return target


def run_ours(words: list[str], out: Path, seeds: Sequence[int] = SEEDS) -> Found:
    """`python -m resnet_np.finetune` with these words and each seed; results in `out`/SEED."""
    found = Found()
    for seed in seeds:
        began = time.perf_counter()
        folder = out / str(seed)
        run(["-m", "resnet_np.finetune", *words, "--seed", str(seed), "--out", str(folder)])
        found.seconds.append(time.perf_counter() - began)
        record = json.loads((folder / "history.json").read_text())
        found.accuracy.append(record["figures"]["test"]["accuracy"])
        print(f"        resnet_np, seed {seed}: {found.accuracy[-1]:.1%}", flush=True)
    return found


def run_torch(words: list[str]) -> Found:
    """PyTorch's script with each seed. Each one's time has that of the features, made once."""
    record = json.loads(run([str(TORCH), *words, "--seeds", *map(str, SEEDS)]).splitlines()[-1])
    return Found(record["accuracy"], [record["features"] + s for s in record["seconds"]])


def run(words: list[str]) -> str:
    """What Python printed; ends this script, too, if it fails."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\nstatus {done.returncode}\n{done.stderr}")
    return done.stdout
