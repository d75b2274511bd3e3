"""Check one layer's backward pass inside a real network: `python -m resnet_np.gradcheck`.

    python -m resnet_np.gradcheck --model resnet50 --layer layer3.0.conv2

takes a ResNet-50 with random weights and random images, and compares the gradients of the layer's
parameters, through all of the network behind it, with finite differences. With `--device gpu` both
are computed there.
"""

import sys
from collections.abc import Iterator

import numpy as np

from resnet_np.autograd import GradientError, Tensor, check_gradients, no_grad
from resnet_np.autograd.gradcheck import Checked
from resnet_np.command import Parser, at_least, count, run_command, seed
from resnet_np.device import DEVICES, require, to_device
from resnet_np.errors import UserError
from resnet_np.kernels import Array
from resnet_np.models import STAGES, ResNet
from resnet_np.models.resnet import SMALLEST_IMAGE
from resnet_np.nn import Module, Parameter


class Tail(Module):
    """The stages of a network from `start` on: what is in front cannot change the gradients."""

    def __init__(self, model: ResNet, start: str) -> None:
        super().__init__()
        self.model, self.start = model, start
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, start=self.start)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return self.model.named_parameters()


def make_parser() -> Parser:
    """The arguments of the command."""
    from resnet_np.training.setup import MODELS

    parser = Parser(
        prog="python -m resnet_np.gradcheck",
        description="Compare a layer's gradients, inside a whole network, with finite differences.",
    )
    add = parser.add_argument
    add("--model", choices=MODELS, default="resnet50", help="the network, with random weights "
        "(default: resnet50)")  # fmt: skip
    add("--layer", required=True, help="a layer, stage or parameter, such as layer3.0.conv2")
    size = at_least(SMALLEST_IMAGE)
    add("--image-size", type=size, default=64, help="side of the random images, 32 or more pixels "
        "(default: 64)")  # fmt: skip
    add("--batch", type=count, default=2, help="how many images (default: 2)")
    add("--seed", type=seed, default=0, help="of weights, images and directions (default: 0)")
    add("--device", choices=DEVICES, default="cpu", help="where to compute (default: cpu)")
    add("--eval", action="store_true", help="check evaluation mode; default: training mode")
    return parser


def main() -> None:
    """Read the arguments, check, print a table. Raises UserError; leaves with 1 where it failed."""
    arguments = make_parser().parse_args()
    require(arguments.device)

    from resnet_np.training.setup import MODELS

    depth, variant = MODELS[arguments.model]
    model = ResNet(depth, variant=variant, seed=arguments.seed)
    model.to(arguments.device).train(not arguments.eval)
    names = parameters_of(model, arguments.layer)
    images = np.random.default_rng(arguments.seed).standard_normal(
        (arguments.batch, arguments.image_size, arguments.image_size, 3), np.float32
    )
    try:
        checked = check_layer(model, names, to_device(images, arguments.device), arguments.seed)
    except GradientError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        sys.exit(1)
    print_table(checked)


def parameters_of(model: ResNet, layer: str) -> list[str]:
    """The parameters of the layer, or stage, of this name; or the one parameter of this name."""
    names = [name for name, _ in model.named_parameters() if f"{name}.".startswith(f"{layer}.")]
    if names:
        return names
    modules = dict(model.named_modules())
    if layer in modules:
        raise UserError(f"--layer {layer}: has no parameters; name a convolution or a batch norm")
    parent = layer
    while parent not in modules:
        parent = parent.rpartition(".")[0]
    inside = ", ".join(name for name, _ in modules[parent].children())
    raise UserError(f"--layer {layer}: there is no such layer; {parent or 'the top'} has {inside}")


def check_layer(model: ResNet, names: list[str], images: Array, seed: int) -> list[Checked]:
    """Check these parameters, with a spinner, since each takes from seconds to minutes."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    first = names[0].split(".")[0]
    start = first if first in STAGES else "stem"
    with no_grad():
        x = Tensor(images) if start == "stem" else model(Tensor(images), stop=start)
    screen = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    hidden = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=None)
        checked = []
        for i, name in enumerate(names, start=1):
            progress.update(task, description=f"checking {name} ({i} of {len(names)})")
            checked += check_gradients(Tail(model, start), [x], only=[name], seed=seed)
    return checked


def print_table(checked: list[Checked]) -> None:
    """One line for each parameter."""
    from rich.console import Console
    from rich.table import Table

    table = Table("parameter", "shape", "comparisons", "worst rel. diff.")
    for line in checked:
        shape = "x".join(map(str, line.shape))
        table.add_row(line.name, shape, str(line.comparisons), f"{line.worst:.1e}")
    Console().print(table)
    print("The gradients agree with finite differences.")


if __name__ == "__main__":
    sys.exit(run_command(main))
