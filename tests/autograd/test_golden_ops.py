"""The ops against PyTorch's values, which tests/golden/make_torch_ops.py has written (float64)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_np as rnp
from resnet_np import Tensor
from resnet_np.nn import BatchNorm2d

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "torch_ops.npz")
CASES: dict[str, dict[str, Any]] = json.loads(str(GOLDEN["cases"]))


def cases_of(op: str) -> list[str]:
    return [case for case in CASES if case.startswith(f"{op}-")]


def leaf(case: str, name: str) -> Tensor:
    return Tensor(GOLDEN[f"{case}/{name}"], requires_grad=True)


def assert_golden(case: str, **arrays: Any) -> None:
    for name, array in arrays.items():
        expected = GOLDEN[f"{case}/{name.replace('__', '.')}"]
        np.testing.assert_allclose(array, expected, rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", cases_of("conv2d"))
def test_conv2d(case: str) -> None:
    x, w, b = leaf(case, "x"), leaf(case, "w"), leaf(case, "b")
    where = tuple(CASES[case]["stride"]), tuple(CASES[case]["padding"])
    y = rnp.conv2d(x, w, b, *where)
    y.backward(GOLDEN[f"{case}/gy"])
    assert_golden(case, y=y.data, gx=x.grad, gw=w.grad, gb=b.grad)


@pytest.mark.parametrize("case", cases_of("max_pool2d") + cases_of("avg_pool2d"))
def test_pooling(case: str) -> None:
    x = leaf(case, "x")
    pool = rnp.max_pool2d if case.startswith("max") else rnp.avg_pool2d
    y = pool(x, *(tuple(CASES[case][name]) for name in ("size", "stride", "padding")))
    y.backward(GOLDEN[f"{case}/gy"])
    assert_golden(case, y=y.data, gx=x.grad)


@pytest.mark.parametrize("case", cases_of("cross_entropy"))
def test_cross_entropy(case: str) -> None:
    options, logits = CASES[case], leaf(case, "logits")
    weights = GOLDEN[f"{case}/weights"] if "weighted" in options else None
    loss = rnp.cross_entropy(
        logits,
        GOLDEN[f"{case}/targets"],
        class_weights=weights,
        label_smoothing=options.get("label_smoothing", 0.0),
        reduction=options.get("reduction", "mean"),
    )
    loss.backward(GOLDEN[f"{case}/gy"])
    assert_golden(case, loss=loss.data, glogits=logits.grad)


@pytest.mark.parametrize("case", cases_of("batch_norm"))
def test_batch_norm_layer(case: str) -> None:
    options, x = CASES[case], leaf(case, "x")
    layer = BatchNorm2d(4, eps=options["eps"], momentum=options["momentum"])
    layer.to(np.float64)
    layer.load_state_dict({n: GOLDEN[f"{case}/before.{n}"] for n in layer.state_dict()})
    layer.train(options["training"])
    y = layer(x)
    y.backward(GOLDEN[f"{case}/gy"])
    assert_golden(case, y=y.data, gx=x.grad, gweight=layer.weight.grad, gbias=layer.bias.grad)
    assert_golden(
        case, after__running_mean=layer.running_mean, after__running_var=layer.running_var
    )
