"""JSON from a stranger: read only if what it describes fits into the memory that it is worth.

`[[],[],[]]` takes three bytes for each list, and a list in Python takes twenty times as much.
"""

import json
from collections.abc import Callable
from typing import Any

ROOM = 16 << 20
"""Bytes of memory that a text may take, whatever the size of its file."""

COSTS = {b"{": 130, b"[": 64, b",": 24, b":": 60, b'"': 20}
"""What each of these in a text stands for, in bytes of memory; measured."""


def load_json(
    text: bytes, held: int = 0, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """What a text in JSON describes.

    held: size of its file, which may be used in addition to ROOM.
    pairs: what makes an object of its list of (name, value), if that is no dict.
    Raises ValueError if it is no JSON, is nested too deep, or may take more memory than it should.
    """
    most = 3 * len(text) + sum(cost * text.count(sign) for sign, cost in COSTS.items())
    if most > ROOM + held:
        raise ValueError(f"{len(text)} bytes that may become {most} in memory")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("nested too deep") from None
