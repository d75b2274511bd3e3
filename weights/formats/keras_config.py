"""What Keras says of a model in JSON: its layers in their order, their names and arguments."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from resnet_np.weights.formats.json_text import load_json

DEPTH = 32
LAYERS = 10_000


@dataclass(frozen=True)
class Layer:
    """One layer, those of nested models included.

    path: where `.weights.h5` keeps it: a layer is known there by its class and by how many of that
        class stand before it in its model, as in "layers/functional/layers/conv2d_7".
    arguments: what it was made with.
    """

    name: str
    path: str
    arguments: dict[str, Any]


def read_layers(text: bytes) -> list[Layer]:
    """The layers of a model in the order of `model.layers`; none for a class of a user's own.

    Raises ValueError if the text is no such JSON.
    """
    layers = list(islice(_layers(load_json(text), ""), LAYERS + 1))
    if len(layers) > LAYERS:
        raise ValueError(f"more than {LAYERS} layers")
    return layers


def _layers(model: Any, path: str) -> Iterator[Layer]:
    if not isinstance(model, dict) or not isinstance(model.get("config"), dict | list):
        raise ValueError("no description of a model")
    if path.count("/") > 2 * DEPTH:
        raise ValueError("nested too deep")
    config = model["config"]
    members = config if isinstance(config, list) else config.get("layers", [])  # Keras 1: a list
    used: Counter[str] = Counter()
    for layer in members:
        match layer:
            case {"class_name": str() as class_name, "config": dict() as arguments}:
                snake = snake_case(class_name)
                number = f"_{used[snake]}" if used[snake] else ""
                used[snake] += 1
                inner = f"{path}layers/{snake}{number}"
                yield Layer(str(arguments.get("name", "")), inner, arguments)
                if isinstance(arguments.get("layers"), list):
                    yield from _layers(layer, f"{inner}/")
            case _:
                raise ValueError("a layer without class or configuration")


def snake_case(class_name: str) -> str:
    """BatchNormalization -> batch_normalization, Conv2D -> conv2d, as Keras writes it."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
