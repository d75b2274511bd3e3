"""A ResNet built block by block, and trained from random weights.

    python examples/by_hand/train.py --data signs --epochs 40

The blocks are those of many a course: the *identity block*, whose shortcut is the input itself, and
the *convolution block*, whose shortcut is a 1x1 convolution because the shapes change (He et al.
2015, "Deep residual learning", figure 5 right and section 3.3). Beside the network there is what a
training from nothing wants: checkpoints of the best weights, a learning rate that falls when the
validation loss stands still, L2 regularisation, and early stopping.
"""

import sys
from pathlib import Path

import numpy as np

from resnet_np import Tensor, max_pool2d, relu
from resnet_np.command import Parser, at_least, count, path_of, run_command, writable
from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.loader import FolderImages
from resnet_np.data.sources import scan
from resnet_np.data.transforms import parse
from resnet_np.errors import UserError
from resnet_np.nn import BatchNorm2d, Conv2d, GlobalAvgPool, Linear, Module, Sequential
from resnet_np.optim import SGD
from resnet_np.optim.schedules import ReduceOnPlateau
from resnet_np.training.callbacks import EarlyStopping, KeepBest
from resnet_np.training.features import ImageInputs, Pixels
from resnet_np.training.fit import fit
from resnet_np.training.loop import predict_logits
from resnet_np.training.plots import draw_curves, save_png
from resnet_np.weights import PLAIN, read_npz, save_npz


class IdentityBlock(Module):
    """relu(x + f(x)): 1x1 to fewer channels, 3x3, and 1x1 back to as many as x has."""

    def __init__(self, channels: int, inner: int, rng: np.random.Generator) -> None:
        self.conv1 = Conv2d(channels, inner, 1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(inner)
        self.conv2 = Conv2d(inner, inner, 3, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(inner)
        self.conv3 = Conv2d(inner, channels, 1, bias=False, rng=rng)
        self.bn3 = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:  # [N, H, W, C] -> [N, H, W, C]
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return relu(x + y)


class ConvolutionBlock(Module):
    """relu(g(x) + f(x)): as above, but to more channels and fewer pixels, so x is brought there."""

    def __init__(
        self, channels: int, inner: int, out: int, stride: int, rng: np.random.Generator
    ) -> None:
        self.conv1 = Conv2d(channels, inner, 1, stride, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(inner)
        self.conv2 = Conv2d(inner, inner, 3, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(inner)
        self.conv3 = Conv2d(inner, out, 1, bias=False, rng=rng)
        self.bn3 = BatchNorm2d(out)
        self.shortcut = Conv2d(channels, out, 1, stride, bias=False, rng=rng)
        self.bn_shortcut = BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:  # [N, H, W, C] -> [N, H / stride, W / stride, K]
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return relu(self.bn_shortcut(self.shortcut(x)) + y)


class HandMadeResNet(Module):
    """A stem, and stages of one convolution block and some identity blocks each.

    depths (2, 3, 5, 2) with 64 channels would be ResNet-50's; here are fewer of both, for small
    images and a laptop.
    """

    def __init__(
        self, classes: int, channels: int = 16, depths: tuple[int, ...] = (1, 1, 1), seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.conv1 = Conv2d(3, channels, 5, 2, padding=2, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(channels)
        blocks: list[Module] = []
        before = channels
        for i, depth in enumerate(depths):
            inner, out = channels * 2**i, 4 * channels * 2**i
            blocks.append(ConvolutionBlock(before, inner, out, 1 if i == 0 else 2, rng))
            blocks += [IdentityBlock(out, inner, rng) for _ in range(depth)]
            before = out
        self.stages = Sequential(*blocks)
        self.pool = GlobalAvgPool()
        self.fc = Linear(before, classes, rng=rng)

    def forward(self, x: Tensor) -> Tensor:  # [N, S, S, 3] -> [N, K]
        x = max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.pool(self.stages(x)))


def make_parser() -> Parser:
    parser = Parser(
        prog="python examples/by_hand/train.py",
        description="A ResNet by hand, trained from random weights.",
    )
    add = parser.add_argument
    add("--data", metavar="FOLDER|TABLE", type=path_of("folder or table"), required=True,
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv with the "
        "columns path and label")  # fmt: skip
    add("--image-size", metavar="PIXELS", type=at_least(16), default=64, help="side of the squares "
        "that the network sees (default: 64)")  # fmt: skip
    add("--epochs", metavar="N", type=count, default=40, help="how long to train (default: 40)")
    add("--out", metavar="FILE", type=path_of("file"), default="by_hand.npz", help="the best "
        "weights; the curves beside them are a .png (default: by_hand.npz)")  # fmt: skip
    return parser


def main() -> None:
    """Read the arguments, train, judge. Raises UserError."""
    arguments = make_parser().parse_args()
    out, size = Path(arguments.out), arguments.image_size
    writable("--out", out)
    if out.suffix.lower() == ".png":
        raise UserError(f"--out {out}: the curves get this name; give one that ends in .npz")
    parts = scan(arguments.data, np.random.default_rng(0))
    if "test" not in parts:
        raise UserError(f"{arguments.data}: has no test images; add a part called test")
    images = {name: FolderImages(part, PLAIN, size) for name, part in parts.items()}
    moved = parse("KerasAffine(rotation_range=10, width_shift_range=0.1, height_shift_range=0.1)")
    train = AugmentedImages(images["train"], moved, seed=0)
    model = HandMadeResNet(len(train.classes))
    history = fit(
        model,
        SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4),  # L2
        train,
        images["validation"],
        arguments.epochs,
        schedule=ReduceOnPlateau(factor=0.3, patience=3),
        callbacks=[
            KeepBest(lambda: save_npz(out, model.state_dict()), "validation_accuracy"),
            EarlyStopping(patience=12),
        ],
    )
    save_png(draw_curves(history), out.with_suffix(".png"))
    model.load_state_dict(read_npz(out)[0])  # those of the best epoch
    test = ImageInputs(images["test"], Pixels(PLAIN, "cpu"))
    answers = predict_logits(model, None, test, batch_size=32).argmax(axis=1)
    right = (answers == test.labels).mean()
    print(f"{out}: the weights of the best epoch, {right:.1%} of test images right")


if __name__ == "__main__":
    sys.exit(run_command(main))
