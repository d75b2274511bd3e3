"""Each op on a stand-in for a card: as on the CPU, and no number travels that need not."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins.card import stand_in
from test_every_op import CASES, Case

from resnet_np import Tensor, kernels
from resnet_np.device import to_device
from resnet_np.kernels import Array, array, gpu


def results(case: Case, device: str) -> tuple[Array, list[Array]]:
    """y and the inputs' gradients, for a gy that is the same on each device."""
    f, inputs = case
    tensors = [Tensor(to_device(x, device), requires_grad=True) for x in inputs]
    y = f(*tensors)
    gy = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(to_device(gy, device))
    return y.data, [t.grad for t in tensors]


@pytest.mark.parametrize("module", ["gpu", "array"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "astype"])  # see test_every_op
@settings(max_examples=5)
@given(data=st.data())
def test_op(name: str, module: str, data: st.DataObject) -> None:
    """By the kernels for a card; and by the array kernels, which are CuPy's as well as NumPy's."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    case = CASES[name](data.draw, rng)
    expected = results(case, "cpu")
    of, chosen = kernels.of, set()

    def noted(x: Array) -> ModuleType:
        chosen.add(of(x))
        return array if module == "array" else of(x)

    with stand_in() as cupy, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "of", noted)
        y, gradients = results(case, "gpu")
        assert chosen <= {gpu}
        assert cupy.standin.record.downloads == []
        for got, want in zip((y, *gradients), (expected[0], *expected[1]), strict=True):
            assert isinstance(got, cupy.ndarray)
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got.get(), want, rtol=1e-10, atol=1e-12)
