"""The options of a run as words: of a command line, and of a recipe."""

import argparse
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from resnet_np.command import (
    Parser,
    at_least,
    count,
    counts,
    more_than_0,
    path_of,
    probability,
    rate,
    seed,
)
from resnet_np.errors import UserError

if TYPE_CHECKING:
    from resnet_np.training.options import Phase

PHASE: dict[str, Callable[[str], Any]] = {
    "unfreeze": str, "epochs": count, "lr": rate, "head_lr": rate, "schedule": str, "warmup": rate,
}  # fmt: skip


def phase(text: str) -> "Phase":
    """The type of an argument such as "unfreeze=layer4; epochs=10; lr=0.0001"."""
    from resnet_np.training.options import Phase

    given: dict[str, Any] = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if name not in PHASE:
            raise argparse.ArgumentTypeError(f"has {', '.join(PHASE)}, and no {name!r}")
        try:
            given[name] = PHASE[name](value.strip())
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{name} {error}") from None
    if not {"unfreeze", "epochs"} <= given.keys():
        raise argparse.ArgumentTypeError(f"needs unfreeze=STAGE and epochs=N, not {text!r} alone")
    if given["unfreeze"] not in _stages():
        raise argparse.ArgumentTypeError(
            f"unfreeze is one of {', '.join(_stages())}, not {given['unfreeze']!r}"
        )
    return Phase(**given)


def _stages() -> list[str]:
    """Those that can be the first to be trained."""
    from resnet_np.models import STAGES

    return [stage for stage in STAGES if stage != "pool"]


def _adder(
    group: argparse._ActionsContainer, without: Collection[str]
) -> Callable[..., argparse.Action | None]:
    """What adds an option to a group, unless it is left out."""

    def add(option: str, **words: Any) -> argparse.Action | None:
        return None if option in without else group.add_argument(option, **words)

    return add


def add_options(parser: Parser, without: Collection[str] = ()) -> None:
    """All options of a run. One that is not given is not in the result, so that --resume can tell.

    parser: with `argument_default=argparse.SUPPRESS`. without: those that a command has no use for.
    """
    from resnet_np.device import DEVICES, PRECISIONS
    from resnet_np.models.resnet import SMALLEST_IMAGE, VARIANTS
    from resnet_np.training.callbacks import FIGURES
    from resnet_np.training.options import KEPT, OPTIMIZERS
    from resnet_np.training.rates import SCHEDULES
    from resnet_np.training.setup import MODELS
    from resnet_np.weights.contract import FITS

    add = _adder(parser, without)
    add(
        "--recipe",
        metavar="FILE",
        type=path_of("file"),
        help="a TOML file of options, such as epochs = 30; what is typed here wins (--epochs and "
        "--unfreeze over all its phases)",
    )

    add = _adder(parser.add_argument_group("images"), without)
    add(
        "--data",
        metavar="FOLDER|TABLE",
        type=path_of("folder or table"),
        help="class folders, with or without train/, val/, test/; or a .csv or .tsv with the "
        "columns path, label and, if you like, split. Without splits, a tenth of each class is for "
        "validation and a tenth for the test, drawn by --seed. Also CIFAR-10's cifar-10-batches-py",
    )
    add(
        "--names",
        metavar="FILE",
        type=path_of("file"),
        help="what the classes are called, where they are numbers or n01440764: "
        "LOC_synset_mapping.txt, imagenet_class_index.json, or a name in each line",
    )
    add(
        "--image-size",
        metavar="PIXELS",
        type=at_least(SMALLEST_IMAGE),
        help="side of the squares that the network sees (default: what the weights expect)",
    )
    add(
        "--fit",
        choices=FITS,
        help="cut a square from the middle of each image, or stretch the whole one to a square "
        "(default: what the weights expect)",
    )
    add(
        "--augment",
        metavar="LIST",
        help="transforms of the training images, such as 'RandomResizedCrop(224), "
        "RandomHorizontalFlip()'; python -m resnet_np.augment shows them",
    )
    add(
        "--views",
        metavar="N",
        type=at_least(0),
        help="with --augment and a frozen trunk (the trunk: all of the network but its head): "
        "compute N views of each image once, and keep their features (default: 0: a new view, "
        "through the trunk, in every epoch)",
    )
    add(
        "--no-cache",
        dest="cache",
        action="store_false",
        help="compute the frozen features anew in every epoch; same result, more slowly",
    )
    add(
        "--no-doctor",
        dest="doctor",
        action="store_false",
        help="do not look for damaged, doubled and leaking images first",
    )

    add = _adder(parser.add_argument_group("network"), without)
    add(
        "--model",
        metavar="NAME",
        choices=MODELS,
        help="resnet18, 34, 50, 101 or 152, which are v1.5 (torchvision's), or resnet50-v1, 101-v1 "
        "or 152-v1 (Keras'). With --weights, what they should hold; without, the network begins at "
        "random and needs --unfreeze stem (default: what the weights hold)",
    )
    add(
        "--variant",
        choices=VARIANTS,
        help="of the weights, where they cannot tell: v1.5 (torchvision's, timm's, Hugging Face's) "
        "or v1 (Keras'); --model says it, too",
    )
    add(
        "--weights",
        metavar="FILE|NAME",
        type=path_of("weight file"),
        help="a weight file of any known format, a checkpoint, or a name from "
        "`python -m resnet_np.weights list` (default: the small embedded ones)",
    )
    add("--head", metavar="N,...", type=counts, help="hidden layers of the head, such as 256,128")
    add(
        "--dropout",
        metavar="P",
        type=probability,
        help="share of the numbers that is left out in the head, at random (default: 0)",
    )
    add(
        "--unfreeze",
        choices=_stages(),
        help="first stage to train (default: fc, the head alone; stem trains everything)",
    )
    add(
        "--recalibrate",
        action="store_true",
        help="make batch-norm statistics those of the images, features unchanged (needs weights "
        "and --unfreeze)",
    )

    add = _adder(parser.add_argument_group("training"), without)
    add("--epochs", metavar="N", type=count, help="in all, resumed ones included (default: 20)")
    add(
        "--phase",
        dest="phases",
        metavar="KEYS",
        type=phase,
        action="append",
        help="instead of --unfreeze and --epochs, once for each part of the run: 'unfreeze=fc; "
        f"epochs=5', then 'unfreeze=layer4; epochs=10; lr=0.0001'; also {', '.join([*PHASE][3:])}. "
        "Each has an optimizer, a schedule and a patience of its own",
    )
    add("--batch-size", metavar="N", type=count, help="images in each batch (default: 32)")
    add("--accumulate", metavar="N", type=count, help="batches that make one step (default: 1)")
    add(
        "--optimizer",
        choices=sorted(OPTIMIZERS),
        help="the rule by which gradients change the weights (default: adam)",
    )
    add(
        "--lr",
        metavar="X",
        type=rate,
        help="learning rate of trunk and head (default: of the head by optimizer, 0.003 for adam, "
        "0.01 for sgd; of the trunk a thirtieth of that)",
    )
    add("--head-lr", metavar="X", type=rate, help="of the head alone; --lr is the trunk's, then")
    add(
        "--stage-decay",
        metavar="X",
        type=more_than_0,
        help="each stage of the trunk learns so many times as fast as the next one (default: 1)",
    )
    add("--momentum", metavar="X", type=probability, help="of sgd and rmsprop (default: 0.9, 0)")
    add(
        "--weight-decay",
        metavar="X",
        type=rate,
        help="how strongly weights are drawn to 0 (default: 0; of adamw 0.01)",
    )
    add(
        "--schedule",
        metavar="NAME",
        help=f"of the learning rate, times in epochs: {'; '.join(SCHEDULES)} (default: Constant)",
    )
    add("--warmup", metavar="EPOCHS", type=rate, help="in which rates rise from 0 (default: 0)")
    add(
        "--clip",
        metavar="X",
        type=more_than_0,
        help="shorten gradients whose norm, over all parameters, is above X",
    )
    add(
        "--label-smoothing",
        metavar="X",
        type=probability,
        help="share of each label that is spread over all classes (default: 0)",
    )
    add(
        "--class-weights",
        metavar="balanced|N,...",
        help="a factor for each class's loss, in the order of the classes; balanced: the rarer, "
        "the larger",
    )
    add(
        "--ema",
        metavar="X",
        type=probability,
        help="judge and save weights averaged with this decay, such as 0.999",
    )
    add(
        "--seed",
        metavar="N",
        type=seed,
        help="of splits, new head, order and transforms (default: 0)",
    )

    add = _adder(parser.add_argument_group("stopping and keeping"), without)
    add(
        "--patience",
        metavar="N",
        type=count,
        help="stop after N epochs in which --watch was not better",
    )
    add(
        "--watch",
        choices=[*FIGURES],
        help="by what --patience and --keep choose (default: validation_loss)",
    )
    add(
        "--keep",
        choices=KEPT,
        help="which weights are judged: the last ones, or the best by --watch, which best.npz has "
        "(default: last)",
    )
    add(
        "--save-every",
        metavar="SECONDS",
        type=rate,
        help="write checkpoint.npz so often, and at the end of each phase (default: 60)",
    )
    add("--save-epochs", metavar="N", type=count, help="and keep one of every N-th epoch")
    add(
        "--out",
        metavar="DIR",
        type=path_of("folder"),
        help="folder for the results (default: a new runs/NAME-NUMBER)",
    )

    add = _adder(parser.add_argument_group("computer"), without)
    add("--device", choices=DEVICES, help="where to compute (default: cpu)")
    add(
        "--precision",
        choices=PRECISIONS,
        help="on a GPU: of matrix products (tf32), or of all activations (bf16, fp16), with "
        "parameters in float32 (default: fp32)",
    )


def read_arguments(parser: Parser, words: list[str] | None = None) -> dict[str, Any]:
    """What was typed, and what the recipe says where nothing was typed. Raises UserError.

    parser: with those of `add_options`; a recipe may have all of them
    """
    typed: dict[str, Any] = vars(parser.parse_args(words))
    _refuse_both(typed)
    recipe = typed.pop("recipe", None)
    if recipe is not None:
        if "resume" in typed:
            raise UserError("--recipe: a run that goes on has its options; leave it out")
        typed = _read_recipe(recipe, parser.prog, typed.keys()) | typed
    if "phases" in typed:
        typed["phases"] = tuple(typed["phases"])
    return typed


def _read_recipe(recipe: str, prog: str, typed: Collection[str]) -> dict[str, Any]:
    """What a recipe says, but its phases or what stands for them where something else was typed."""
    from resnet_np.training.recipe import recipe_words

    words = recipe_words(recipe)
    known = Parser(prog=prog, argument_default=argparse.SUPPRESS)
    add_options(known)
    try:
        said = vars(known.parse_args(words))
        if "phases" in typed:
            said = {k: v for k, v in said.items() if k not in ("epochs", "unfreeze")}
        elif {"epochs", "unfreeze"} & set(typed):
            said.pop("phases", None)
        _refuse_both(said)
    except UserError as error:
        raise UserError(f"{recipe}: {error}") from None
    return said


def _refuse_both(given: dict[str, Any]) -> None:
    """Raise UserError if something is said both for the whole run and by its phases."""
    both = [name for name in ("epochs", "unfreeze") if name in given and "phases" in given]
    if both:
        raise UserError(f"--{both[0]}: the phases say it; leave one of the two out")
