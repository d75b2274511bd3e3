"""A network as a graph of ONNX operators, made from its weights alone.

    images [N, 3, H, W] -> Conv -> BatchNormalization -> Relu -> MaxPool -> blocks
        -> GlobalAveragePool -> Flatten -> Gemm -> logits [N, K]

Channels come first, as in every ONNX graph, and kernels are [K, C, R, S]: tensors are called and
laid out as in torchvision. N, H and W are free. Dropout does nothing here and is left out.
"""

from typing import Any, NamedTuple

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.weights import layout, names
from resnet_np.weights.file import WeightFile
from resnet_np.weights.structure import Block, Structure, Unit, pooling_of, structure_of

INPUT = "images"
POOLS = {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}
NORM = ("weight", "bias", "running_mean", "running_var")  # in the order of BatchNormalization


class Node(NamedTuple):
    """One operator. Its output is called as the node is."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]


class Graph:
    """The operators in the order in which they run, and the tensors that they take.

    nodes: the last one gives the output.
    tensors: float32, in torchvision's layout, by torchvision's names.
    shape: that of the output; a letter is a size that depends on the input.
    has_head: whether the output are logits, and not features.

    fold: multiply each batch norm into its convolution.

    Raises UserError if the arrays are not those of one network, if its variant or epsilon is not
    known, or if a number is too large for float32.
    """

    def __init__(self, file: WeightFile, fold: bool) -> None:
        structure = structure_of(file)
        if file.bn_eps is None:
            raise UserError(
                f"{file.path}: does not say which epsilon its batch norms have, which a graph"
                " contains"
            )
        self.eps = file.bn_eps
        arrays = fold_batch_norms(file.arrays, self.eps) if fold else file.arrays
        self.tensors = _single(file.path, arrays)
        self.nodes: list[Node] = []
        self.has_head = bool(structure.head)
        self._trunk(structure)
        self.shape = self._top(structure, pooling_of(file))

    def _add(self, kind: str, name: str, inputs: tuple[str, ...], **attributes: Any) -> str:
        self.nodes.append(Node(kind, name, inputs, attributes))
        return name

    def _trunk(self, structure: Structure) -> None:
        x = self._unit(structure.stem, INPUT)
        x = self._add("Relu", "relu", (x,))
        x = self._add(
            "MaxPool", "maxpool", (x,), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        for block in structure.blocks:
            x = self._block(block, x)

    def _block(self, block: Block, x: str) -> str:
        y = x
        for unit in block.units[:-1]:
            y = self._unit(unit, y)
            y = self._add("Relu", f"{unit.conv}.relu", (y,))
        y = self._unit(block.units[-1], y)
        if block.shortcut:
            x = self._unit(block.shortcut, x)
        y = self._add("Add", f"{block.name}.add", (y, x))
        return self._add("Relu", block.name, (y,))

    def _unit(self, unit: Unit, x: str) -> str:
        pad = unit.size // 2
        x = self._add(
            "Conv",
            unit.conv,
            (x, *self._parameters(unit.conv)),
            kernel_shape=[unit.size] * 2,
            strides=[unit.stride] * 2,
            pads=[pad] * 4,
        )
        if f"{unit.norm}.weight" not in self.tensors:  # folded
            return x
        inputs = (x, *(f"{unit.norm}.{leaf}" for leaf in NORM))
        return self._add("BatchNormalization", unit.norm, inputs, epsilon=self.eps)

    def _parameters(self, module: str) -> tuple[str, ...]:
        """The names of a layer's weight and, if it has one, its bias."""
        both = (f"{module}.weight", f"{module}.bias")
        return tuple(name for name in both if name in self.tensors)

    def _top(self, structure: Structure, pooling: str | None) -> list[int | str]:
        """Pooling and the head. Returns the shape of the output."""
        x = self.nodes[-1].name
        channels = len(self.tensors[f"{structure.blocks[-1].units[-1].conv}.weight"])
        if pooling is None and not structure.head:
            return ["N", channels, "P", "Q"]
        x = self._add(POOLS[pooling or "avg"], "pool", (x,))  # [N, C, P, Q] -> [N, C, 1, 1]
        x = self._add("Flatten", "flatten", (x,), axis=1)  # [N, C, 1, 1] -> [N, C]
        for module in structure.head:
            if module != structure.head[0]:
                x = self._add("Relu", f"{module}.relu", (x,))
            x = self._add("Gemm", module, (x, *self._parameters(module)), transB=1)
            channels = len(self.tensors[f"{module}.weight"])
        return ["N", channels]


def fold_batch_norms(arrays: dict[str, np.ndarray], eps: float) -> dict[str, np.ndarray]:
    """Convolutions with biases that do what convolutions and batch norms did; float64.

    gamma * (w * x + b - mean) / sqrt(var + eps) + beta
        = (w * scale) * x + (b - mean) * scale + beta        scale = gamma / sqrt(var + eps)
    """
    doubles = {name: array.astype(np.float64) for name, array in arrays.items()}
    folded: dict[str, np.ndarray] = {}
    for name, array in doubles.items():
        module, _, leaf = name.rpartition(".")
        kind = names.kind(module)
        if kind == "fc":
            folded[name] = array
        elif kind == "conv" and leaf == "weight":
            gamma, beta, mean, var = (doubles[f"{names.norm_after(module)}.{n}"] for n in NORM)
            scale = gamma / np.sqrt(var + eps)
            folded[name] = array * scale  # [R, S, C, K] * [K]
            folded[f"{module}.bias"] = (doubles.get(f"{module}.bias", 0) - mean) * scale + beta
    return folded


def _single(path: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """float32, in torchvision's layout."""
    with np.errstate(over="ignore"):  # found right below
        singles = {n: layout.to_torch(a.astype(np.float32)) for n, a in arrays.items()}
    if large := [name for name, array in singles.items() if not np.isfinite(array).all()]:
        raise UserError(f"{path}: numbers too large for float32 in {some(large)}", large)
    return singles
