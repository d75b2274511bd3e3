"""Recipes: the options of a run in a TOML file.

    data = "photos"
    augment = "RandomResizedCrop(224), RandomHorizontalFlip()"

    [[phases]]
    unfreeze = "fc"
    epochs = 5

    [[phases]]
    unfreeze = "layer4"
    epochs = 10
    lr = 0.0001

A key is the name of an option of `python -m resnet_np.finetune`, with _ or -. So there is nothing
to check here but that a recipe has the form of one: it becomes words of the command line, which are
read as if somebody had typed them in front of what was typed.
"""

import json
import os
import tomllib
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from resnet_np.errors import UserError
from resnet_np.training.options import Options

NAME = "recipe.toml"
MOST_BYTES = 2**20  # a recipe is a page of text


def recipe_words(path: str | os.PathLike[str]) -> list[str]:
    """What one would have to type for the options of a recipe. Raises UserError if it is none."""
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise UserError(f"{path}: is no recipe: it has more than {MOST_BYTES} bytes")
        keys = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of which those of TOML and Unicode are some
        raise UserError(f"{path}: is no TOML: {error}") from None
    words: list[str] = []
    known = {field.name for field in fields(Options)}
    for key, value in keys.items():
        if key.replace("-", "_") not in known:
            near = get_close_matches(key.replace("-", "_"), known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{path}: there is no option {key!r}{hint}")
        option = "--" + key.replace("_", "-")
        if key == "phases":
            tables = value if isinstance(value, list) else [value]
            if not all(isinstance(table, dict) for table in tables):
                raise UserError(f"{path}: phases are tables, each under a line [[phases]]")
            for table in tables:
                changes = (f"{k.replace('-', '_')}={_text(path, k, v)}" for k, v in table.items())
                words.append("--phase=" + "; ".join(changes))
        elif isinstance(value, bool):
            if value != getattr(Options, key.replace("-", "_")):  # what needs no word
                words.append(option if value else option.replace("--", "--no-"))
        elif value != []:  # no hidden layers, for example
            words.append(f"{option}={_text(path, key, value)}")
    return words


def _text(path: str | os.PathLike[str], key: str, value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return ",".join(map(str, value))
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{path}: {key} must be a text, a number or a list of numbers")


def recipe_text(options: Options) -> str:
    """Every option of a run as a recipe. Those that are None are left out, and `out`."""
    record = asdict(options) | {"out": None}
    phases = record.pop("phases")
    if phases:  # they say it
        record.pop("unfreeze"), record.pop("epochs")
    lines = _lines(record)
    for phase in phases:
        lines += ["", "[[phases]]", *_lines(phase)]
    return "\n".join([*lines, ""])


def _lines(values: dict[str, Any]) -> list[str]:
    """`key = value` for each that there is."""
    return [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]


def _toml(value: Any) -> str:
    """A value as TOML has it: in all that occurs here, the same as JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
