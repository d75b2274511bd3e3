"""JSON is read only if what it describes fits into the memory that it is worth."""

import json
import tracemalloc

import pytest

from resnet_np.weights.formats.json_text import ROOM, load_json

PARTS = {
    "lists": "[]",
    "objects": '{"a":0}',
    "texts": '"\u20ac"',
    "numbers": "1e9",
    "deep": "[[[[]]]]",
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_what_is_read_takes_no_more_than_there_is_room(part: str) -> None:
    n, peak = 20_000, 0
    with pytest.raises(ValueError, match="may become"):
        while True:
            text = ("[" + f"{part}," * n + "0]").encode()
            tracemalloc.start()
            try:
                load_json(text)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            n *= 2
    assert ROOM // 8 < peak < 1.3 * ROOM


def test_a_larger_file_may_use_more() -> None:
    text = b"[" + b"[]," * 400_000 + b"0]"
    with pytest.raises(ValueError, match="may become"):
        load_json(text)
    assert len(load_json(text, held=64 << 20)) == 400_001


def test_nested_too_deep() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        load_json(b"[" * 100_000)


def test_pairs() -> None:
    assert load_json(b'{"a": 1, "a": [{}]}', pairs=list) == [("a", 1), ("a", [[]])]


def test_the_class_names_of_imagenet_fit() -> None:
    labels = {str(i): f"a name of two or three words, {i}" for i in range(21_841)}
    load_json(json.dumps({"id2label": labels}).encode())
