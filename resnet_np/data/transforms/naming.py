"""Transforms from text: by the name of their class and its arguments."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from resnet_np.data.transforms.base import Compose, Transform
from resnet_np.data.transforms.colour import ColorJitter, RandAugment
from resnet_np.data.transforms.geometry import (
    CenterCrop,
    KerasAffine,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
)
from resnet_np.data.transforms.mixing import BatchTransform, CutMix, MixUp
from resnet_np.errors import UserError

TRANSFORMS: dict[str, type[Transform] | type[BatchTransform]] = {
    kind.__name__: kind
    for kind in (
        Resize, CenterCrop, RandomResizedCrop, RandomHorizontalFlip, RandomRotation, KerasAffine,
        ColorJitter, RandAugment, RandomErasing, MixUp, CutMix,
    )
}  # fmt: skip


Call = tuple[str, list[Any], list[tuple[str, Any]]]  # name, arguments by place, and by name


def make(name: str, arguments: Mapping[str, Any]) -> Transform | BatchTransform:
    """The transform of this name. A list among the arguments is what a tuple is in Python.

    Raises UserError for names and arguments that do not exist, are missing or have bad values.
    """
    if name not in TRANSFORMS:
        raise UserError(f"no transform is called {name!r}; there are {', '.join(TRANSFORMS)}")
    transform: Any = TRANSFORMS[name]
    known = {field.name: field.default is MISSING for field in fields(transform)}
    for argument in arguments:
        if argument not in known:
            raise UserError(
                f"{name}: no argument is called {argument!r}; it has {', '.join(known)}"
            )
    for argument, required in known.items():
        if required and argument not in arguments:
            raise UserError(f"{name}: its argument {argument} is missing")
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
    return TRANSFORMS[name](**given)


def parse(text: str) -> list[Transform | BatchTransform]:
    """The transforms of a text such as "RandomResizedCrop(224), RandomHorizontalFlip(p=0.3)".

    Raises UserError where it is no list of calls, each with plain numbers, words and tuples.
    """
    try:
        calls = read_calls(text)
    except ValueError:
        raise UserError(
            f"{text!r} is no list of transforms; write them like "
            "'RandomResizedCrop(224), RandomHorizontalFlip()'"
        ) from None
    return [make(name, _name_arguments(name, places, named)) for name, places, named in calls]


def read_calls(text: str) -> list[Call]:
    """The calls that a text such as "Step(7), Cosine" is a list of. Nothing is run.

    Raises ValueError if it is anything else than that, with plain numbers, words and tuples.
    """
    try:
        listed = ast.parse(f"[{text}]", mode="eval").body
        return [_read_call(c) for c in (listed.elts if isinstance(listed, ast.List) else [listed])]
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from None


def _read_call(call: ast.expr) -> Call:
    """Raises ValueError if it is no plain call."""
    if isinstance(call, ast.Name):
        return call.id, [], []
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ValueError("no call")
    named = [(word.arg, ast.literal_eval(word.value)) for word in call.keywords if word.arg]
    if len(named) < len(call.keywords):
        raise ValueError("arguments in a dictionary")
    return call.func.id, [ast.literal_eval(argument) for argument in call.args], named


def _name_arguments(name: str, places: list[Any], named: list[tuple[str, Any]]) -> dict[str, Any]:
    """All arguments by name. Raises UserError for more than there are, and for one given twice."""
    if name not in TRANSFORMS:
        return {}  # which `make` refuses by its name
    names = [field.name for field in fields(TRANSFORMS[name])]  # type: ignore[arg-type]
    given = [*zip(names, places, strict=False), *named]
    if len(places) > len(names) or len(dict(given)) < len(given):
        raise UserError(f"{name}: an argument too many; it has {', '.join(names)}")
    return dict(given)


def split_steps(
    steps: Sequence[Transform | BatchTransform],
) -> tuple[Compose, list[BatchTransform]]:
    """(what happens to each image, what happens to the batch).

    Raises UserError if an image transform stands behind one of a batch: it could not be done.
    """
    single = [step for step in steps if isinstance(step, Transform)]
    mixing = [step for step in steps if isinstance(step, BatchTransform)]
    if [*steps] != [*single, *mixing]:
        name = type(mixing[0]).__name__
        raise UserError(f"{name} mixes whole batches: it must stand behind {single[-1]}")
    return Compose(single), mixing
