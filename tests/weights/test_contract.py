"""Input contracts against the formulas written out for single pixels."""

import json
from dataclasses import replace

import numpy as np
import pytest

from resnet_np.weights import KERAS_CAFFE, PLAIN, TORCHVISION, Contract

PIXEL = np.array([[[[255, 0, 51]]]], dtype=np.uint8)  # [N, H, W, 3], red first


def test_torchvision() -> None:
    x = TORCHVISION.normalise(PIXEL)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0, 0, 0], expected, rtol=1e-6)


def test_caffe_is_blue_first_and_unscaled() -> None:
    x = KERAS_CAFFE.normalise(PIXEL)
    np.testing.assert_allclose(x[0, 0, 0], [51 - 103.939, -116.779, 255 - 123.68], rtol=1e-6)
    assert x.flags.c_contiguous


def test_plain() -> None:
    np.testing.assert_allclose(PLAIN.normalise(PIXEL)[0, 0, 0], [1, 0, 0.2], rtol=1e-6)


def test_images_are_left_as_they_were() -> None:
    before = PIXEL.copy()
    KERAS_CAFFE.normalise(PIXEL)
    np.testing.assert_array_equal(PIXEL, before)


def test_refuses_what_is_not_bytes_or_not_images() -> None:
    with pytest.raises(TypeError, match="float32"):
        TORCHVISION.normalise(PIXEL.astype(np.float32))
    with pytest.raises(ValueError, match=r"\[1, 1, 3\]"):
        TORCHVISION.normalise(PIXEL[0])


@pytest.mark.parametrize("size", [32, 64, 224, 448])
def test_resize_keeps_the_proportion(size: int) -> None:
    assert TORCHVISION.resize_for(size) == round(size * 256 / 224)
    assert replace(TORCHVISION, resize=232).resize_for(size) == round(size * 232 / 224)
    assert PLAIN.resize_for(size) == size


@pytest.mark.parametrize("contract", [TORCHVISION, KERAS_CAFFE, PLAIN])
def test_record_round_trip(contract: Contract) -> None:
    assert Contract.from_record(json.loads(json.dumps(contract.to_record()))) == contract


@pytest.mark.parametrize(
    "change",
    [
        {"color": "GBR"},
        {"mean": (0.0,)},
        {"std": (1.0, 0.0, 1.0)},
        {"scale": 0.0},
        {"crop": 300},
        {"interpolation": "linear"},
    ],
)
def test_nonsense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="|".join(change)):
        replace(TORCHVISION, **change)


def test_a_record_of_something_else() -> None:
    with pytest.raises(ValueError, match="has the fields"):
        Contract.from_record({"color": "RGB"})
