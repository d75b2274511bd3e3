"""Make `checkpoint_format1.npz`: a checkpoint as the first format wrote it.

It was made once, and files of its kind must load for ever: never remake it to please a test. Run
`python tests/golden/make_checkpoint.py` only to see how it came about; it writes to the current
folder. Beside the checkpoint, `checkpoint_format1_logits.npy` holds the logits [2, 2] of the two
images that `ramps` draws.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from resnet_np.autograd import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.training.checkpoint import load_checkpoint, restore_model
from resnet_np.training.finetuning import finetune
from resnet_np.training.options import Options
from resnet_np.weights import TORCHVISION, read_npz, save_npz

NAME = "checkpoint_format1"


def ramps() -> np.ndarray:
    """Two images uint8 [2, 32, 32, 3]: dark to bright from left to right, and from top down."""
    row = np.arange(32, dtype=np.uint8) * 8
    across = np.broadcast_to(row[None, :, None], (32, 32, 3))
    return np.stack([across, across.transpose(1, 0, 2)])


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name, turn in (("across", 0), ("down", 1)):
            (root / "images" / name).mkdir(parents=True)
            for i in range(5):
                pixels = ramps()[turn] // (i + 1)
                Image.fromarray(pixels).save(root / "images" / name / f"{i}.png")
        small = ResNet(18, width=1 / 32, num_classes=2)
        record = {
            "model": small.config, "classes": ["a", "b"], "image_size": 32,
            "contract": TORCHVISION.to_record(),
        }  # fmt: skip
        arrays = {f"model/{name}": a for name, a in small.state_dict().items()}
        save_npz(root / "start.npz", arrays, record)
        options = Options(
            data=str(root / "images"), weights=str(root / "start.npz"), out=str(root / "out"),
            epochs=3, batch_size=4, head=(3,), dropout=0.25, unfreeze="layer4", recalibrate=True,
        )  # fmt: skip
        finetune(options, None, Console(quiet=True))
        arrays, made = read_npz(root / "out" / "checkpoint.npz")
    assert made is not None
    made["arguments"] |= {"data": "images", "weights": "start.npz", "out": "out"}
    save_npz(f"{NAME}.npz", arrays, made)
    model = restore_model(load_checkpoint(f"{NAME}.npz"))
    model.eval()
    with no_grad():
        logits = model(Tensor(TORCHVISION.normalise(ramps()))).data
    np.save(f"{NAME}_logits.npy", logits)


if __name__ == "__main__":
    main()
