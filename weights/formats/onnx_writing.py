"""ONNX: the network as a graph with its weights, for onnxruntime and all else that serves it.

The input is normalised already: what that takes is said in its description and, with the class
names and all else that belongs to the weights, in the model's property `resnet_np`.
"""

from typing import TYPE_CHECKING

import numpy as np

from resnet_np.errors import UserError, one_line
from resnet_np.weights import facts
from resnet_np.weights.atomic import atomic_file
from resnet_np.weights.contract import Contract
from resnet_np.weights.file import WeightFile
from resnet_np.weights.formats.onnx_graph import INPUT, Graph

if TYPE_CHECKING:
    import onnx

OPSET = 26
"""The newest version of ONNX' operators that onnxruntime accepts today (1.31). The package `onnx`
is ahead of it (1.23 defines 28); an older one writes the newest that it knows. What the operators
of this graph compute has been the same since version 15."""


def write_onnx(path: str, file: WeightFile, fold: bool = False) -> list[str]:
    """An `.onnx` model with float32 weights.

    fold: multiply each batch norm into its convolution. That is computed in float64 and changes no
        output; it is faster where the runtime does not fold by itself, but what lies in the file is
        no longer what was trained.

    Raises UserError if the arrays are not those of one network, if its variant or epsilon is not
    known, or if the package `onnx` is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{path}: .onnx is written by the package onnx: pip install 'resnet_np[onnx]'"
        ) from error
    model = _to_model(Graph(file, fold), file)
    with atomic_file(path) as target:
        target.write(model.SerializeToString(deterministic=True))
    doubles = sum(array.dtype == np.float64 for array in file.arrays.values())
    return [f"{doubles} of its tensors are float64 and were rounded to float32"] if doubles else []


def _to_model(graph: Graph, file: WeightFile) -> "onnx.ModelProto":
    from onnx import defs, helper, numpy_helper

    output = "logits" if graph.has_head else "features"
    nodes = [
        helper.make_node(
            node.kind,
            node.inputs,
            [output if node is graph.nodes[-1] else node.name],
            name=node.name,
            **node.attributes,
        )
        for node in graph.nodes
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in graph.tensors.items()]
    images = _value(INPUT, ["N", 3, "H", "W"], describe(file.contract))
    results = _value(output, graph.shape, _describe_classes(file.classes))
    version = helper.make_opsetid("", min(OPSET, defs.onnx_opset_version()))
    model = helper.make_model(
        helper.make_graph(nodes, "resnet", [images], [results], tensors),
        opset_imports=[version],
        ir_version=helper.find_min_ir_version_for([version]),
        producer_name="resnet_np",
        doc_string=_title(file),
    )
    helper.set_model_props(model, {facts.KEY: facts.to_text(file)})
    return model


def _value(name: str, shape: list[int | str], text: str) -> "onnx.ValueInfoProto":
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, doc_string=text)


def _title(file: WeightFile) -> str:
    depth = "" if file.depth is None else f"-{file.depth}"
    return " ".join(filter(None, (f"ResNet{depth}", file.variant)))


def describe(contract: Contract) -> str:
    """What has to be done to a photograph, in a sentence."""
    antialias = "with" if contract.antialias else "without"
    return (
        f"{contract.color} photographs, the shorter side resized to {contract.resize}"
        f" ({contract.interpolation}, {antialias} antialiasing), the {contract.crop} x"
        f" {contract.crop} pixels in the middle, as (byte * {contract.scale:.9g} -"
        f" {list(contract.mean)}) / {list(contract.std)} for each channel"
    )


def _describe_classes(classes: tuple[str, ...] | None) -> str:
    """The names that belong to the outputs, if they are known; for people, so as one line."""
    if classes is None:
        return ""
    return one_line(f"one number for each of: {', '.join(classes)}", facts.MAX_TEXT)
