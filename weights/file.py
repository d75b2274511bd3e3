"""What a weight file holds, whichever format it came in."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnet_np.weights import names
from resnet_np.weights.contract import Contract


@dataclass(frozen=True)
class WeightFile:
    """Named arrays, and what has to be known to use them.

    path: where they were read from.
    format: "npz", "safetensors", "pytorch-zip", "pytorch-legacy", "pytorch-tar", "keras-h5",
        "keras-weights-h5", "keras-zip", "huggingface" (a folder) or "checkpoint".
    source: whose names and layout the file has: "torchvision" (timm's are the same), "keras",
        "huggingface" or "resnet_np".
    published: the name in the registry of the published file that it is byte for byte, or None.
    arrays: torchvision's names; convolutions [R, S, C, K], linear layers [C, K].
    left_out: tensors of the file that are in none of the arrays, each with the reason.
    variant: "v1", "v1.5", or None if the file cannot tell (the tensors have the same shapes).
    bn_eps: the epsilon its batch norms were trained with, or None if the file cannot tell.
    contract: the input it expects.
    depth: 18, 34, 50, 101, 152, or None if its blocks are none of these.
    conv_bias: whether its convolutions have biases.
    folded_statistics: every running mean is 0 and every running variance 1, because the statistics
        were multiplied into gamma and beta. Right with fixed statistics only.
    record: the JSON record of one of our own checkpoints.
    """

    path: str
    format: str
    source: str
    arrays: dict[str, np.ndarray]
    left_out: dict[str, str]
    variant: str | None
    bn_eps: float | None
    contract: Contract
    classes: tuple[str, ...] | None
    record: dict[str, Any] | None
    depth: int | None
    conv_bias: bool
    folded_statistics: bool
    published: str | None = None


@dataclass
class Found:
    """What a reader found, before it is checked: the fields are those of WeightFile."""

    format: str
    source: str
    contract: Contract
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    variant: str | None = None
    bn_eps: float | None = None
    classes: tuple[str, ...] | None = None
    record: dict[str, Any] | None = None
    origins: dict[str, str] = field(default_factory=dict)  # names in the file, by ours
    says_contract: bool = False  # the input contract is the file's own word, not a guess by names
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, array: np.ndarray, origin: str) -> None:
        """Take one tensor in under its torchvision name; `origin` is its name in the file."""
        if name in self.arrays:
            self.problems.append(f"{origin!r} is a second {name!r}")
        else:
            self.arrays[name] = array
            self.origins[name] = origin

    def has_conv_bias(self) -> bool:
        return any(n.endswith(".bias") and names.kind(n[:-5]) == "conv" for n in self.arrays)

    def has_folded_statistics(self) -> bool:
        means = [a for n, a in self.arrays.items() if n.endswith("running_mean")]
        variances = [a for n, a in self.arrays.items() if n.endswith("running_var")]
        return (
            bool(means)
            and all(not a.any() for a in means)
            and all((a == 1).all() for a in variances)
        )
