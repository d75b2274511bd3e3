"""AlexNet with batch norm and dropout, from the module API, trained from random weights.

    python examples/alexnet/train.py --data signs --epochs 30

Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural
networks", section 3.5: five convolutions, three of them followed by a max pooling, and three linear
layers, two with dropout. As is usual now, batch norm (Ioffe & Szegedy 2015) stands where the paper
has its local response normalisation, and nothing is split between two GPUs. The first kernels are
smaller than the paper's 11x11, and the linear layers narrower, for images of 64 pixels.
"""

import sys
from pathlib import Path

import numpy as np

from resnet_np import Tensor, flatten, max_pool2d, relu
from resnet_np.command import Parser, count, path_of, run_command, writable
from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.loader import FolderImages
from resnet_np.data.sources import scan
from resnet_np.data.transforms import parse
from resnet_np.errors import UserError
from resnet_np.nn import BatchNorm2d, Conv2d, Dropout, Linear, Module
from resnet_np.optim import Adam
from resnet_np.optim.schedules import OneCycle
from resnet_np.training.callbacks import KeepBest
from resnet_np.training.features import ImageInputs, Pixels
from resnet_np.training.fit import fit
from resnet_np.training.loop import predict_logits
from resnet_np.training.plots import draw_curves, save_png
from resnet_np.weights import PLAIN, read_npz, save_npz

BATCH = 32


class AlexNet(Module):
    """Images [N, 64, 64, 3] -> logits [N, K]."""

    def __init__(self, classes: int, dropout: float = 0.5, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.conv1, self.bn1 = Conv2d(3, 48, 7, 2, padding=3, rng=rng), BatchNorm2d(48)
        self.conv2, self.bn2 = Conv2d(48, 96, 5, padding=2, rng=rng), BatchNorm2d(96)
        self.conv3, self.bn3 = Conv2d(96, 128, 3, padding=1, rng=rng), BatchNorm2d(128)
        self.conv4, self.bn4 = Conv2d(128, 128, 3, padding=1, rng=rng), BatchNorm2d(128)
        self.conv5, self.bn5 = Conv2d(128, 96, 3, padding=1, rng=rng), BatchNorm2d(96)
        self.fc6, self.drop6 = Linear(4 * 4 * 96, 512, rng=rng), Dropout(dropout, rng=rng)
        self.fc7, self.drop7 = Linear(512, 512, rng=rng), Dropout(dropout, rng=rng)
        self.fc8 = Linear(512, classes, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)  # [N, 64, 64, 3] -> [N, 16, 16, 48]
        x = max_pool2d(relu(self.bn2(self.conv2(x))), 3, 2, 1)  # -> [N, 8, 8, 96]
        x = relu(self.bn3(self.conv3(x)))
        x = relu(self.bn4(self.conv4(x)))
        x = max_pool2d(relu(self.bn5(self.conv5(x))), 3, 2, 1)  # -> [N, 4, 4, 96]
        x = flatten(x)  # -> [N, 1536]
        x = self.drop6(relu(self.fc6(x)))
        x = self.drop7(relu(self.fc7(x)))
        return self.fc8(x)


def make_parser() -> Parser:
    parser = Parser(
        prog="python examples/alexnet/train.py",
        description="AlexNet, trained from random weights.",
    )
    add = parser.add_argument
    add("--data", metavar="FOLDER|TABLE", type=path_of("folder or table"), required=True,
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv with the "
        "columns path and label")  # fmt: skip
    add("--epochs", metavar="N", type=count, default=30, help="how long to train (default: 30)")
    add("--out", metavar="FILE", type=path_of("file"), default="alexnet.npz", help="the best "
        "weights; the curves beside them are a .png (default: alexnet.npz)")  # fmt: skip
    return parser


def main() -> None:
    """Read the arguments, train, judge. Raises UserError."""
    arguments = make_parser().parse_args()
    out = Path(arguments.out)
    writable("--out", out)
    if out.suffix.lower() == ".png":
        raise UserError(f"--out {out}: the curves get this name; give one that ends in .npz")
    parts = scan(arguments.data, np.random.default_rng(0))
    if "test" not in parts:
        raise UserError(f"{arguments.data}: has no test images; add a part called test")
    images = {name: FolderImages(part, PLAIN, 64) for name, part in parts.items()}
    train = AugmentedImages(images["train"], parse("RandomResizedCrop(64, scale=(0.6, 1))"), seed=0)
    model = AlexNet(len(train.classes))
    steps = arguments.epochs * -(-len(train.labels) // BATCH)
    history = fit(
        model,
        Adam(model.parameters(), lr=1e-3),
        train,
        images["validation"],
        arguments.epochs,
        batch_size=BATCH,
        schedule=OneCycle(max(2, steps)),
        callbacks=[KeepBest(lambda: save_npz(out, model.state_dict()), "validation_accuracy")],
    )
    save_png(draw_curves(history), out.with_suffix(".png"))
    model.load_state_dict(read_npz(out)[0])  # those of the best epoch
    test = ImageInputs(images["test"], Pixels(PLAIN, "cpu"))
    answers = predict_logits(model, None, test, batch_size=32).argmax(axis=1)
    right = (answers == test.labels).mean()
    print(f"{out}: the weights of the best epoch, {right:.1%} of test images right")


if __name__ == "__main__":
    sys.exit(run_command(main))
