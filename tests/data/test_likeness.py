"""Which images are nearly the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from resnet_np.data import likeness
from resnet_np.data.likeness import difference_bits, find_near, group, make_thumbnail


def scene(seed: int, w: int = 96, h: int = 64) -> Image.Image:
    """A smooth image with something to see in it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC)


def test_bits_by_hand():
    thumbnail = np.zeros((17, 17), np.uint8)
    thumbnail[2, 3] = 9  # lighter than its neighbours: the bit on its left, and the one above it
    bits = np.unpackbits(difference_bits(thumbnail[None])[0]).reshape(2, 16, 16)
    assert np.argwhere(bits).tolist() == [[0, 2, 2], [1, 1, 3]]


def test_copies_are_near_and_others_are_not():
    one = scene(0)
    changed = [
        one.resize((48, 32)),
        one.convert("L"),
        ImageEnhance.Brightness(one).enhance(0.9),
        one.crop((1, 1, 95, 63)),
    ]
    images = [one, *changed, *(scene(seed) for seed in range(1, 30)), one.rotate(180)]
    pairs = find_near(np.stack([make_thumbnail(image) for image in images]))
    assert group(pairs) == [[0, 1, 2, 3, 4]]
    assert (0, 1) in pairs


def test_both_must_agree(monkeypatch):
    images = np.stack([make_thumbnail(scene(0)), make_thumbnail(scene(0).resize((48, 32)))])
    assert find_near(images) == [(0, 1)]
    noise = np.random.default_rng(0).integers(0, 3, (2, 17, 17))
    steps = np.where(np.arange(17) < 8, 50, 200)[None, None] + noise  # one edge, all else is noise
    assert np.corrcoef(steps.reshape(2, -1))[0, 1] > 0.99
    assert find_near(steps.astype(np.uint8)) == []
    monkeypatch.setattr(likeness, "LEAST_CORRELATION", 1.1)
    assert find_near(images) == []


def test_an_image_of_one_colour_is_like_no_other():
    assert find_near(np.stack([np.full((17, 17), v, np.uint8) for v in (0, 0, 7, 255)])) == []


@pytest.mark.parametrize("at_once", [1, 30, 1 << 24])
def test_the_blocks_leave_out_no_pair(monkeypatch, at_once):
    monkeypatch.setattr(likeness, "AT_ONCE", at_once)
    images = [make_thumbnail(scene(seed % 5)) for seed in range(11)]
    wanted = [(i, j) for i in range(11) for j in range(i + 1, 11) if i % 5 == j % 5]
    assert find_near(np.stack(images)) == wanted


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda p: p[0] != p[1])))
def test_groups_are_the_connected_parts(pairs):
    reached = {i: {i} for pair in pairs for i in pair}
    for _ in reached:
        for i, j in pairs:
            reached[i] = reached[j] = reached[i] | reached[j]
    assert group(pairs) == sorted(map(list, {tuple(sorted(part)) for part in reached.values()}))
