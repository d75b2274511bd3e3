"""The same network in the terms of a format that leaves no choice.

Keras' ResNets have a bias in every convolution and the epsilon 1.001e-5 in every batch norm, and
their weight files name neither; Hugging Face's have no biases and 1e-5. A batch norm with fixed
statistics computes

    y = gamma * (x - mean) / sqrt(var + eps) + beta

so another epsilon goes into `var`, and a bias in front of it into `mean`:

    var + eps = (var + eps - eps') + eps'            (w * x + b) - mean = w * x - (mean - b)

The function is the same up to one rounding of each number that changes.
"""

from dataclasses import replace

import numpy as np

from resnet_np.errors import UserError, some
from resnet_np.weights import names
from resnet_np.weights.file import WeightFile


def adapt(file: WeightFile, bn_eps: float, conv_bias: bool) -> tuple[WeightFile, list[str]]:
    """The file with this epsilon, and with or without biases in all of its convolutions.

    Gives one sentence for each thing that had to be changed; none if the file was so already.
    Computes in float64 and keeps each array's type; the file given is left as it is.

    Raises UserError if the file does not say its epsilon, or if a variance is so small that the
    new epsilon alone is more than the old sum.
    """
    arrays = dict(file.arrays)
    notes = _change_eps(file, arrays, bn_eps)
    notes += _add_biases(arrays) if conv_bias else _drop_biases(arrays)
    return replace(file, arrays=arrays, bn_eps=bn_eps, conv_bias=conv_bias), notes


def _change_eps(file: WeightFile, arrays: dict[str, np.ndarray], bn_eps: float) -> list[str]:
    if file.bn_eps is None:
        raise UserError(
            f"{file.path}: does not say which epsilon its batch norms have, and the format to be"
            f" written has {bn_eps:g}: only a file that says it can be brought to that"
        )
    if file.bn_eps == bn_eps:
        return []
    variances = [name for name in arrays if name.endswith(".running_var")]
    for name in variances:
        arrays[name] = _plus(arrays[name], file.bn_eps - bn_eps)
    if below := [name for name in variances if arrays[name].min() < 0]:
        raise UserError(
            f"{file.path}: its batch norms have epsilon {file.bn_eps:g}, the format to be written"
            f" has {bn_eps:g}, and some variances are too small to make up for it: {some(below)}"
        )
    return [
        f"the epsilon of its {len(variances)} batch norms is {file.bn_eps:g}, here it has to be"
        f" {bn_eps:g}: the difference was added to each running_var, so that their sum, which is"
        " all that counts, is the same"
    ]


def _add_biases(arrays: dict[str, np.ndarray]) -> list[str]:
    added = [conv for conv in _convolutions(arrays) if f"{conv}.bias" not in arrays]
    for conv in added:
        w = arrays[f"{conv}.weight"]  # [R, S, C, K]
        arrays[f"{conv}.bias"] = np.zeros(w.shape[3], w.dtype)
    if not added:
        return []
    return [
        f"{len(added)} of its convolutions have no bias, here each has to have one: they got"
        " zeros, which change nothing"
    ]


def _drop_biases(arrays: dict[str, np.ndarray]) -> list[str]:
    dropped = [conv for conv in _convolutions(arrays) if f"{conv}.bias" in arrays]
    for conv in dropped:
        mean = f"{names.norm_after(conv)}.running_mean"
        arrays[mean] = _plus(arrays[mean], -arrays.pop(f"{conv}.bias").astype(np.float64))
    if not dropped:
        return []
    return [
        f"{len(dropped)} of its convolutions have a bias, here none may: each was subtracted from"
        " the running_mean of the batch norm behind it, which takes the mean away just after the"
        " bias was added, so that the outputs are the same"
    ]


def _convolutions(arrays: dict[str, np.ndarray]) -> list[str]:
    modules = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
    return [module for module in modules if names.kind(module) == "conv"]


def _plus(array: np.ndarray, change: float | np.ndarray) -> np.ndarray:
    """Their sum, computed in float64, as the type of the array."""
    return (array.astype(np.float64) + change).astype(array.dtype)
