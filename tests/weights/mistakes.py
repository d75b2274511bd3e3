"""Input contracts, and the ways in which people prepare images by mistake."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from resnet_np.errors import UserError
from resnet_np.weights import KERAS_CAFFE, PLAIN, TORCHVISION, Contract

SIGNED = replace(PLAIN, mean=(0.5,) * 3, std=(0.5,) * 3)
CONTRACTS = {
    "torchvision": TORCHVISION,
    "caffe": KERAS_CAFFE,
    "0..1": PLAIN,
    "-1..1": SIGNED,
}
Prepare = Callable[[np.ndarray], np.ndarray]


def numbers(contract: Contract, pixels: np.ndarray) -> np.ndarray:
    """The contract's formula for RGB pixels that need not be whole numbers."""
    pixels = pixels[..., ::-1] if contract.color == "BGR" else pixels
    x = (pixels * contract.scale - np.array(contract.mean)) / contract.std
    return x.astype(np.float32)


def verdict(contract: Contract, x: Any) -> str:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            contract.check(x)
        except UserError:
            return "refused"
    return "warned" if found else "silent"


def twice(name: str, scaled: bool) -> Prepare:
    contract = CONTRACTS[name]

    def prepare(pixels: np.ndarray) -> np.ndarray:
        once = contract.normalise(pixels)
        once = once[..., ::-1] if contract.color == "BGR" else once
        return numbers(contract, once if scaled else once / contract.scale)

    return prepare


MISTAKES: dict[str, Prepare] = {
    "bytes": lambda pixels: pixels.astype(np.float32),
    **{name: contract.normalise for name, contract in CONTRACTS.items()},
    **{f"{name}, twice": twice(name, scaled=False) for name in CONTRACTS},
    **{f"{name}, scaled twice": twice(name, scaled=True) for name in CONTRACTS},
}
CASES = [
    (name, mistake)
    for name in CONTRACTS
    for mistake in MISTAKES
    if "," not in mistake or mistake.startswith(f"{name},")
    if mistake != "0..1, twice"  # mean 0 and deviation 1 change nothing
]
