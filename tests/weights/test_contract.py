"""Input contracts against the formulas written out for single pixels."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.errors import UserError
from resnet_np.weights import (
    HUGGINGFACE,
    KERAS_CAFFE,
    PLAIN,
    TORCHVISION,
    TORCHVISION_V2,
    Contract,
)

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
    with pytest.raises(UserError, match="not float32: give it the images as they were decoded"):
        TORCHVISION.normalise(PIXEL.astype(np.float32))
    with pytest.raises(UserError, match=r"\[1, 1, 3\]"):
        TORCHVISION.normalise(PIXEL[0])


@pytest.mark.parametrize("size", [32, 64, 224, 448])
def test_resize_keeps_the_proportion(size: int) -> None:
    assert TORCHVISION.resize_for(size) == round(size * 256 / 224)
    assert replace(TORCHVISION, resize=232).resize_for(size) == round(size * 232 / 224)
    assert PLAIN.resize_for(size) == size


@pytest.mark.parametrize("contract", [TORCHVISION, HUGGINGFACE, KERAS_CAFFE, PLAIN])
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
        {"fit": "squeeze"},
        {"corner": "up"},
        {"mean": (0.0, float("nan"), 0.0)},
        {"std": (1.0, float("inf"), 1.0)},
        {"interpolation": "lanczos", "antialias": False},
    ],
)
def test_nonsense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="|".join(change)):
        replace(TORCHVISION, **change)


def test_a_record_of_something_else() -> None:
    with pytest.raises(ValueError, match="has the fields"):
        Contract.from_record({"color": "RGB"})


def test_a_record_from_before_fit_and_corner() -> None:
    record = TORCHVISION.to_record()
    del record["fit"], record["corner"]
    assert Contract.from_record(record) == TORCHVISION


WRONG = [None, True, "0.5", "nan", [], [0.5], [[0.5] * 3], {}, 10**400, -(10**400), 1e308]
WRONG += [float("nan"), float("inf"), -float("inf"), [float("nan")] * 3, [10**400] * 3]
WRONG += [[True] * 3, ["0.5"] * 3, [0.5] * 2, [0.5] * 4, [[0.5]] * 3, [1e-320] * 3, -1, 0, 0.5]


@pytest.mark.parametrize("field", list(TORCHVISION.to_record()))
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_a_wrong_value_in_a_record(field: str, value: object) -> None:
    right_there = (field, value) in [("antialias", True), ("scale", 0.5)]
    right_there |= field == "mean" and value == [1e-320] * 3
    record = TORCHVISION.to_record() | {field: value}
    if right_there:
        Contract.from_record(record)
    else:
        with pytest.raises(ValueError):
            Contract.from_record(record)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(TORCHVISION.to_record())), JSON, max_size=3))
def test_any_json_is_a_contract_or_a_value_error(changes: dict) -> None:
    with contextlib.suppress(ValueError):
        contract = Contract.from_record(TORCHVISION.to_record() | changes)
        assert np.isfinite(contract.normalise(PIXEL)).all()
        assert Contract.from_record(json.loads(json.dumps(contract.to_record()))) == contract


@given(JSON)
def test_any_json_is_no_contract(value: object) -> None:
    with pytest.raises(ValueError, match="has the fields"):
        Contract.from_record(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, 224, 448])
def test_with_size(size: int) -> None:
    contract = TORCHVISION_V2.with_size(size)
    assert (contract.crop, contract.resize) == (size, round(size * 232 / 224))
    assert KERAS_CAFFE.with_size(size).resize == size


@pytest.mark.parametrize(
    ("contract", "believed", "message"),
    [
        (
            TORCHVISION,
            {"std": [0.229, 0.229, 0.229]},
            r"std is \(0.229, 0.229, 0.229\), but the weights were trained with "
            r"\(0.229, 0.224, 0.225\): one number per channel, or leave it out",
        ),
        (TORCHVISION, {"std": [0.229, 0.224]}, "std is"),
        (TORCHVISION, {"std": 0.229}, "std is 0.229, .*: one number per channel"),
        (KERAS_CAFFE, {"std": [0.229, 0.229, 0.229]}, r"with \(1.0, 1.0, 1.0\): leave it out"),
        (TORCHVISION, {"mean": [0.406, 0.456, 0.485]}, "mean is .*: its order is that of RGB"),
        (KERAS_CAFFE, {"mean": [123.68, 116.779, 103.939]}, "mean is .*: its order is that of BGR"),
        (KERAS_CAFFE, {"mean": [0.485, 0.456, 0.406]}, "mean is"),
        (
            KERAS_CAFFE,
            {"scale": 1 / 255},
            "scale is 0.0039.*, but the weights were trained with 1.0: they take bytes 0..255, so "
            "leave the division by 255 out",
        ),
        (
            TORCHVISION,
            {"scale": 1.0},
            "scale is 1.0, .* with 1/255: .* the bytes as they were decoded",
        ),
        (KERAS_CAFFE, {"color": "RGB"}, "color is RGB, .* with BGR: give normalise RGB images"),
        (TORCHVISION, {"color": "BGR"}, "color is BGR, .* with RGB"),
        (PLAIN, {"mean": [0.485, 0.456, 0.406]}, "mean is"),
    ],
)
def test_arguments_that_contradict(contract: Contract, believed: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        contract.normalise(PIXEL, **believed)


@pytest.mark.parametrize("contract", [TORCHVISION, KERAS_CAFFE, PLAIN])
def test_arguments_that_agree(contract: Contract) -> None:
    record = contract.to_record()
    believed = {name: record[name] for name in ("color", "scale", "mean", "std")}
    expected = contract.normalise(PIXEL)
    np.testing.assert_array_equal(contract.normalise(PIXEL, **believed), expected)


def test_rounded_arguments_agree() -> None:
    TORCHVISION.agree(scale=0.00392, mean=[0.4850, 0.4560, 0.4059], std=[0.22900, 0.22399, 0.225])
    KERAS_CAFFE.agree(mean=[103.94, 116.78, 123.7])
