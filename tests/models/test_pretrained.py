"""Loading weights: every tensor is used, left out for a reason, or missing for one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_np import Tensor, no_grad
from resnet_np.errors import UserError
from resnet_np.models import ResNet
from resnet_np.models.pretrained import ReplaceHead, load_weights
from resnet_np.weights import KERAS_CAFFE, PLAIN, TORCHVISION, Contract, WeightFile, read, save_npz

NARROW: dict[str, Any] = {"width": 1 / 32, "num_classes": 5}
HEAD = {"fc.weight", "fc.bias"}


def weight_file(model: ResNet, **facts: Any) -> WeightFile:
    """A file with random numbers for every tensor of the model."""
    rng = np.random.default_rng(3)
    arrays = {n: rng.uniform(0.5, 1.5, a.shape) for n, a in model.state_dict().items()}
    file = WeightFile(
        path="some.file",
        format="npz",
        source="torchvision",
        arrays=arrays,
        left_out={"bn1.num_batches_tracked": "a counter"},
        variant=None,
        bn_eps=1e-5,
        contract=TORCHVISION,
        classes=None,
        record=None,
        depth=50,
        conv_bias=False,
        folded_statistics=False,
    )
    return replace(file, **facts)


@pytest.fixture(scope="module")
def file() -> WeightFile:
    return weight_file(ResNet(50, **NARROW))


@pytest.fixture
def model() -> ResNet:
    return ResNet(50, **NARROW)


def copy_of(model: ResNet) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


def assert_loaded(model: ResNet, file: WeightFile, names: set[str]) -> None:
    state = model.state_dict()
    for name in names:
        assert state[name].dtype == np.float32
        np.testing.assert_array_equal(state[name], file.arrays[name].astype("f4"), err_msg=name)


def message_of(model: ResNet, file: WeightFile, **options: Any) -> str:
    before = copy_of(model)
    with pytest.raises(UserError) as caught:
        load_weights(model, file, **options)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=f"{name} was changed")
    message = str(caught.value)
    assert message.startswith("some.file: does not fit the model: ")
    assert "\n" not in message
    return message


def test_everything_fits(model: ResNet, file: WeightFile) -> None:
    report = load_weights(model, file)
    assert_loaded(model, file, set(file.arrays))
    assert set(report.used) == set(file.arrays) == set(model.state_dict())
    assert report.left_out == {"bn1.num_batches_tracked": "a counter"}
    assert report.missing == {}
    assert str(report) == "267 tensors used, 1 left out"


def test_from_a_path(tmp_path: Path, model: ResNet, file: WeightFile) -> None:
    arrays = {f"model/{n}": a for n, a in file.arrays.items()}
    save_npz(tmp_path / "a.npz", arrays, {"model": model.config})
    load_weights(model, tmp_path / "a.npz")
    assert_loaded(model, file, set(file.arrays))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_classes": 7}, "the head is replaced: 64-5 in the file, 64-7 in the model"),
        ({"head": (9,)}, "the head is replaced: 64-5 in the file, 64-9-5 in the model"),
        ({"include_top": False}, "the model has no head"),
    ],
)
def test_a_head_that_does_not_fit_is_left_out(
    file: WeightFile, options: dict[str, Any], reason: str
) -> None:
    model = ResNet(50, **(NARROW | options))
    before = copy_of(model)
    report = load_weights(model, file)
    assert_loaded(model, file, set(file.arrays) - HEAD)
    assert {n: r for n, r in report.left_out.items() if n in HEAD} == dict.fromkeys(HEAD, reason)
    own_head = {n for n in before if n.startswith("fc.")}
    assert set(report.missing) == own_head
    for name in own_head:
        np.testing.assert_array_equal(model.state_dict()[name], before[name])


def test_a_head_that_fits_is_replaced_on_request(model: ResNet, file: WeightFile) -> None:
    before = copy_of(model)
    report = load_weights(model, file, replace_head=True)
    assert set(report.missing) == HEAD
    assert set(report.left_out) >= HEAD
    np.testing.assert_array_equal(model.state_dict()["fc.weight"], before["fc.weight"])


def test_a_file_without_head(model: ResNet, file: WeightFile) -> None:
    trunk = {n: a for n, a in file.arrays.items() if n not in HEAD}
    report = load_weights(model, replace(file, arrays=trunk))
    assert set(report.missing) == HEAD
    message = message_of(model, replace(file, arrays=trunk), replace_head=False)
    assert "fc.weight is missing; fc.bias is missing" in message


def test_a_head_is_demanded(file: WeightFile) -> None:
    model = ResNet(50, **(NARROW | {"num_classes": 7}))
    message = message_of(model, file, replace_head=False)
    assert "fc.weight has shape (64, 5) instead of (64, 7)" in message
    assert "fc.bias has shape (5,) instead of (7,)" in message


def test_all_wrong_tensors_together(model: ResNet, file: WeightFile) -> None:
    arrays = dict(file.arrays)
    del arrays["layer1.0.bn1.weight"], arrays["layer4.2.bn3.running_var"]
    arrays["layer2.0.conv2.weight"] = np.zeros((1, 1, 4, 4))
    arrays["layer3.0.bn2.bias"] = np.zeros(3)
    arrays["layer1.3.bn1.weight"] = np.zeros(2)
    message = message_of(model, replace(file, arrays=arrays))
    for part in (
        "layer1.0.bn1.weight is missing",
        "layer4.2.bn3.running_var is missing",
        "layer2.0.conv2.weight has shape (1, 1, 4, 4) instead of (3, 3, 4, 4)",
        "layer3.0.bn2.bias has shape (3,) instead of (8,)",
        "layer1.3.bn1.weight is not in the model",
    ):
        assert part in message


def test_many_wrong_tensors_fit_into_a_line(model: ResNet, file: WeightFile) -> None:
    doubled = {n: np.repeat(a, 2, axis=-1) for n, a in file.arrays.items() if n != "conv1.weight"}
    arrays = doubled | {"conv1.weight": file.arrays["conv1.weight"]}
    with pytest.raises(UserError) as caught:
        load_weights(model, replace(file, arrays=arrays), replace_head=True)
    assert len(str(caught.value)) < 500
    assert len(caught.value.details) == 264  # all of 267 but conv1.weight and the head's two
    assert "and 260 more" in str(caught.value)


def test_v1_weights_in_a_v15_model(model: ResNet, file: WeightFile) -> None:
    message = message_of(model, replace(file, variant="v1"))
    assert "it is for the v1 network, the model is v1.5" in message
    assert "variant='v1' (--model resnet50-v1)" in message
    load_weights(ResNet(50, variant="v1", **NARROW), replace(file, variant="v1"))


def test_all_wrong_options_together(model: ResNet) -> None:
    keras = ResNet(101, variant="v1", conv_bias=True, bn_eps=1.001e-5, **NARROW)
    facts = {"depth": 101, "variant": "v1", "conv_bias": True, "bn_eps": 1.001e-5}
    message = message_of(model, weight_file(keras, **facts))
    for option in ("ResNet-101", "resnet101-v1", "conv_bias=True", "bn_eps=1.001e-05"):
        assert option in message
    assert "is missing" not in message  # a hundred lines that all follow from the depth
    load_weights(keras, weight_file(keras, **facts))


def test_biases_that_the_file_has_not(file: WeightFile) -> None:
    model = ResNet(50, conv_bias=True, **NARROW)
    assert "have no biases: build the model with conv_bias=False" in message_of(model, file)


def test_another_width(file: WeightFile) -> None:
    model = ResNet(50, num_classes=5, width=1 / 16)
    message = message_of(model, file)
    assert "begins with 2 channels, the model with 4: build it with width=0.03125" in message


def test_real_weights(test_data: Path) -> None:
    file = read(test_data / "weights" / "resnet50_pqf_large_decoded.npz")
    assert (file.depth, file.variant, file.folded_statistics) == (50, None, True)
    model = ResNet(50)
    report = load_weights(model, file)
    assert len(report.used) == 267
    assert not report.left_out and not report.missing


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("contract", [TORCHVISION, KERAS_CAFFE, PLAIN])
def test_the_model_keeps_the_contract_and_checks_by_it(
    model: ResNet, file: WeightFile, contract: Contract
) -> None:
    with no_grad():
        model(Tensor(images().astype(np.float32)))  # nothing is known yet
        load_weights(model, replace(file, contract=contract))
        assert model.contract == contract
        model(Tensor(contract.normalise(images())))
        with pytest.raises(UserError, match="they look like bytes"):
            model(Tensor(images().astype(np.float32)))
        with pytest.raises(UserError, match="they look like bytes"):
            model(Tensor(images().astype(np.float32)), stop="layer1")


def test_features_are_no_images(model: ResNet, file: WeightFile) -> None:
    load_weights(model, file)
    with no_grad():
        model(Tensor(np.full((2, model.features), 1000, np.float32)), start="fc")


def test_what_is_no_weight_stays_out_of_the_state(model: ResNet, file: WeightFile) -> None:
    before = set(model.state_dict())
    load_weights(model, replace(file, classes=tuple("abcde")))
    assert set(model.state_dict()) == before
    assert "contract" not in model.config


@pytest.mark.parametrize(
    ("options", "replace_head", "classes"),
    [
        ({}, "auto", tuple("abcde")),
        ({}, True, None),
        ({"num_classes": 7}, "auto", None),
        ({"include_top": False}, "auto", None),
    ],
)
def test_class_names_come_with_the_head(
    file: WeightFile,
    options: dict[str, Any],
    replace_head: ReplaceHead,
    classes: tuple[str, ...] | None,
) -> None:
    model = ResNet(50, **(NARROW | options))
    load_weights(model, replace(file, classes=tuple("abcde")), replace_head)
    assert model.classes == classes
