"""Put the tensors of a weight file into a model, and account for every one of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resnet_np.errors import UserError
from resnet_np.models.resnet import ResNet
from resnet_np.nn.module import check_fit
from resnet_np.weights import WeightFile, read

ReplaceHead = Literal["auto"] | bool

NEW_HEAD = "the head is new and keeps its first values"
OPTIONS = {"v1": "variant='v1' (--model resnet{}-v1)", "v1.5": "variant='v1.5' (--model resnet{})"}


@dataclass(frozen=True)
class LoadReport:
    """Where everything went.

    used: names of the tensors that were copied into the model.
    left_out: tensors of the file that were not, on purpose: name -> reason.
    missing: tensors of the model that the file did not fill: name -> reason.
    """

    used: tuple[str, ...]
    left_out: dict[str, str]
    missing: dict[str, str]

    def __str__(self) -> str:
        kept = f", {len(self.missing)} of the model keep their first values" if self.missing else ""
        return f"{len(self.used)} tensors used, {len(self.left_out)} left out{kept}"


def load_weights(
    model: ResNet,
    source: str | os.PathLike[str] | WeightFile,
    replace_head: ReplaceHead = "auto",
) -> LoadReport:
    """Copy weights into a model, which must be the network they were trained in.

    source: a file of any format that `resnet_np.weights.read` knows, or what it returned.
    replace_head: True keeps the model's own head and leaves the file's out; False demands that the
        file's fits; "auto" takes it if it fits. The trunk must fit exactly in any case.

    Values are converted to the model's own precision. The model keeps the file's `contract`, and
    its `classes` if it takes the head.

    Raises UserError, and leaves the model as it was, if the file cannot be read, is for a network
    built with other options, or if tensors are missing, unknown or of other shapes. All problems
    are listed together, in the error's `details`; its message has the first few of each kind.
    """
    file = source if isinstance(source, WeightFile) else read(source)
    own = model.state_dict()
    replaced = _reason_to_replace(own, file.arrays, replace_head)
    wanted = {n: a for n, a in own.items() if not (replaced and _in_head(n))}
    offered = {n: a for n, a in file.arrays.items() if not (replaced and _in_head(n))}

    complaint = f"{file.path}: does not fit the model"
    problems = list(_wrong_options(model, file))
    if problems:
        raise UserError(f"{complaint}: {'; '.join(problems)}", problems)
    check_fit(complaint, wanted, offered)
    model.load_state_dict(own | offered)
    model.contract, model.classes = file.contract, None if replaced else file.classes

    left_out = file.left_out | {n: replaced for n in file.arrays if n not in offered}
    missing = {n: NEW_HEAD for n in own if n not in wanted}
    return LoadReport(tuple(offered), left_out, missing)


def _in_head(name: str) -> bool:
    return name.startswith("fc.")


def _reason_to_replace(
    own: dict[str, np.ndarray], arrays: dict[str, np.ndarray], replace_head: ReplaceHead
) -> str:
    """Why the file's head is not taken, or "" if it is."""
    ours = {n: a.shape for n, a in own.items() if _in_head(n)}
    theirs = {n: a.shape for n, a in arrays.items() if _in_head(n)}
    if replace_head is False or (replace_head == "auto" and ours == theirs):
        return ""
    if not ours:
        return "the model has no head"
    if replace_head is True:
        return "the head is replaced"
    return f"the head is replaced: {_layout(theirs)} in the file, {_layout(ours)} in the model"


def _layout(head: dict[str, tuple[int, ...]]) -> str:
    """The sizes of a head's layers, as in 2048-512-13."""
    shapes = [shape for name, shape in head.items() if name.endswith(".weight")]
    return "-".join(str(n) for n in (shapes[0][0], *(s[1] for s in shapes))) if shapes else "none"


def _wrong_options(model: ResNet, file: WeightFile) -> Iterator[str]:
    """Facts about the file that the model was not built for, each with the option to set.

    The shapes would not tell: v1 and v1.5 have the same, and an epsilon has none.
    """
    config = model.config
    if file.depth not in (None, config["depth"]):
        yield f"it holds a ResNet-{file.depth}, the model is built with depth={config['depth']}"
    channels, first = file.arrays["conv1.weight"].shape[3], round(64 * config["width"])
    if channels != first:
        yield (
            f"it begins with {channels} channels, the model with {first}: build it with "
            f"width={channels / 64:g}"
        )
    if file.variant not in (None, config["variant"]):
        option = OPTIONS[file.variant].format(file.depth or config["depth"])
        yield (
            f"it is for the {file.variant} network, the model is {config['variant']}: build it "
            f"with {option}"
        )
    if file.conv_bias != config["conv_bias"]:
        have = "have" if file.conv_bias else "have no"
        yield f"its convolutions {have} biases: build the model with conv_bias={file.conv_bias}"
    if file.bn_eps not in (None, config["bn_eps"]):
        yield (
            f"its batch norms use epsilon {file.bn_eps:g}, the model {config['bn_eps']:g}: build "
            f"it with bn_eps={file.bn_eps:g}"
        )
