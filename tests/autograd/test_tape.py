"""The tape: fan-out, ownership of gradients, order, release, and what is not recorded."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np import Tensor, batch_norm, check_gradients, nn, no_grad, optim, relu
from resnet_np.autograd import Op
from resnet_np.autograd.conv import Conv2d, Linear
from resnet_np.autograd.tensor import as_tensor
from resnet_np.kernels import NO_PADDING


def leaf(*values: Any) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


def grad_of(x: Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad


def test_fan_out_adds_up() -> None:
    x = leaf(1.0, -1.0, 2.0)
    (relu(x) + x).sum().backward()
    np.testing.assert_array_equal(grad_of(x), [2, 1, 2])


def test_a_tensor_added_to_itself() -> None:
    x = leaf(1.0, 2.0)
    y = x + x
    (y + y).sum().backward()
    np.testing.assert_array_equal(grad_of(x), [4, 4])


def test_a_diamond_of_diamonds_is_visited_once_per_op() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.sum().backward()
    np.testing.assert_array_equal(grad_of(x), [2.0**60])


def test_the_longer_way_round_is_waited_for() -> None:
    x = leaf(3.0)
    short = x * 2.0
    long = ((short * 1.0) * 1.0) * 1.0
    (short * long).sum().backward()  # (2x)^2, so 8x
    np.testing.assert_array_equal(grad_of(x), [24])


def test_borrowed_gradients_are_not_written_to() -> None:
    """Add passes the same array to both sides; a third use of one must not change the other's."""
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    gy = np.array([1.0, 10.0])
    (a + b + a + a * 3.0).backward(gy)
    np.testing.assert_array_equal(grad_of(a), [5, 50])
    np.testing.assert_array_equal(grad_of(b), [1, 10])
    np.testing.assert_array_equal(gy, [1, 10])


def test_what_an_op_made_is_added_to_in_place_and_kept() -> None:
    """Linear's gradients are nobody else's: no copy for the leaf, and a sum in the same place."""
    made = []

    class Noting(Linear):
        def backward(self, gy: Any) -> Any:
            made.append(super().backward(gy))
            return made[-1]

    x = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    w = Tensor(np.eye(2), requires_grad=True)
    gy = np.array([[1.0, 10.0]])
    (Noting()(x, w, None) + x).backward(gy)
    assert w.grad is made[0][1]
    np.testing.assert_array_equal(grad_of(x), [[2, 20]])
    np.testing.assert_array_equal(gy, [[1, 10]])


def test_a_convolution_adds_to_the_gradient_that_its_input_has() -> None:
    """Without a pass of its own: into the array if it is ours, into a new one if it is borrowed."""
    made = []

    class Noting(Conv2d):
        def backward(self, gy: Any) -> Any:
            made.append((self.so_far.value, super().backward(gy)[0]))
            return made[-1][1], None, None

    x = Tensor(np.ones((1, 1, 1, 1)), requires_grad=True)
    gy = np.ones((1, 1, 1, 1))
    ys = [
        Noting((1, 1), NO_PADDING)(x, Tensor(np.full((1, 1, 1, 1), w)), None) for w in (10.0, 100.0)
    ]
    (x + ys[0] + ys[1]).backward(gy)
    (nothing, first), (before, after) = made
    assert nothing is None and before is after is first is x.grad
    np.testing.assert_array_equal(x.grad, [[[[111]]]])
    np.testing.assert_array_equal(gy, [[[[1]]]])


def test_batch_norm_writes_over_a_gradient_that_nobody_else_holds() -> None:
    rng = np.random.default_rng(0)
    made = []

    class Noting(Linear):
        def backward(self, gy: Any) -> Any:
            made.append(super().backward(gy))
            return made[-1]

    x, gamma, beta = (Tensor(rng.standard_normal(s), True) for s in ((5, 3), 3, 3))
    w = Tensor(rng.standard_normal((3, 3)), requires_grad=True)
    h, *_ = batch_norm(x, gamma, beta, relu=True)
    Noting()(h, w, None).backward(rng.standard_normal((5, 3)))
    assert x.grad is made[0][0], "gx is where the gradient by h was"
    y, *_ = batch_norm(x, gamma, beta)
    gy = rng.standard_normal((5, 3))
    before = gy.copy()
    y.backward(gy)
    np.testing.assert_array_equal(gy, before, err_msg="the caller holds it")


@pytest.mark.parametrize("with_relu", [True, False])
def test_batch_norms_that_share_a_gradient_leave_it_alone(with_relu: bool) -> None:
    """The sum's gy goes to both of them, and from one on to its shortcut."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((5, 3), (5, 3), (5, 3), 3, 3)]

    def f(x: Tensor, z: Tensor, r: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        first, *_ = batch_norm(x, gamma, beta, residual=r, relu=with_relu)
        second, *_ = batch_norm(z, gamma, beta, relu=with_relu)
        return (first + second + r) * 1.5

    check_gradients(f, arrays)


def test_batch_norms_in_a_row_whatever_the_order_in_memory() -> None:
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 3, 4, 5)).transpose(0, 2, 3, 1), requires_grad=True)
    gamma, beta = Tensor(rng.standard_normal(3), True), Tensor(rng.standard_normal(3), True)
    h, *_ = batch_norm(x, gamma, beta)
    y, *_ = batch_norm(h, gamma, beta, relu=True)
    y.backward(rng.standard_normal(y.shape))
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_leaves_never_share_a_gradient() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    gy = np.ones(2)
    (a + b).backward(gy)
    assert not np.shares_memory(grad_of(a), grad_of(b))
    assert not np.shares_memory(grad_of(a), gy)
    c = leaf(1.0, 2.0)
    c.backward(gy)
    assert not np.shares_memory(grad_of(c), gy)
    d, e = leaf(1.0, 2.0), leaf(1.0)
    (d.reshape(2, 1) + e).transpose().backward(np.ones((1, 2)))
    assert not np.shares_memory(grad_of(d), grad_of(e))
    grad_of(a)[:] = 7
    np.testing.assert_array_equal(grad_of(b), [1, 1])


def test_a_gradient_can_be_written_to() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()  # a broadcast view on its way
    grad_of(x)[0] = 5
    np.testing.assert_array_equal(grad_of(x), [5, 1])


def test_gradients_accumulate_over_backward_calls() -> None:
    x = leaf(1.0, 2.0)
    (x * 2.0).sum().backward()
    first = grad_of(x)
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(grad_of(x), [5, 5])
    np.testing.assert_array_equal(first, [2, 2])


def test_a_long_chain_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    y.sum().backward()
    np.testing.assert_array_equal(grad_of(x), [1])


def test_a_long_chain_is_dropped_without_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    del y
    gc.collect()


def test_no_tape_without_a_need() -> None:
    y = Tensor([1.0, 2.0]) * 2.0
    assert not y.requires_grad
    assert y.op is None
    with pytest.raises(RuntimeError, match="nothing that this tensor depends on"):
        y.sum().backward()


def test_no_tape_under_no_grad() -> None:
    x = leaf(1.0)
    with no_grad():
        y = x * 2.0
        with no_grad():
            pass
        z = x * 2.0
    assert y.op is None and z.op is None
    assert (x * 2.0).op is not None
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2.0).op is not None, "no_grad ends with an exception, too"


def test_constants_get_no_gradient() -> None:
    x, constant = leaf(1.0, 2.0), Tensor(np.array([3.0, 4.0]))
    (x * constant).sum().backward()
    assert constant.grad is None
    np.testing.assert_array_equal(grad_of(x), [3, 4])


def test_a_frozen_leaf_cuts_the_tape_below_itself_only() -> None:
    x, w = leaf(2.0), leaf(3.0)
    w.requires_grad = False
    (x * w).sum().backward()
    assert w.grad is None
    np.testing.assert_array_equal(grad_of(x), [3])


def test_intermediate_tensors_keep_no_gradient() -> None:
    x = leaf(1.0)
    y = x * 2.0
    y.sum().backward()
    assert y.grad is None


def test_saved_arrays_are_released_on_the_way_back() -> None:
    x = leaf(*range(5))
    y = x.exp()
    loss = y.sum()
    assert y.op is not None
    saved = weakref.ref(y.op.saved)
    op, alive = y.op, weakref.ref(y)
    del y
    loss.backward()
    gc.collect()
    assert op.saved is None and op.inputs == ()
    assert saved() is None and alive() is None


def test_a_dropped_result_frees_its_tape() -> None:
    x = leaf(1.0)
    y = x.exp()
    assert y.op is not None
    alive = weakref.ref(y.op)
    del y
    assert alive() is None, "no reference cycle: memory is freed without the collector"


def test_second_backward_is_an_error_that_says_so() -> None:
    x = leaf(1.0)
    y = x * 2.0
    loss = y.sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="called before: run the forward pass again"):
        loss.backward()
    with pytest.raises(RuntimeError, match="called before"):
        (y * 3.0).sum().backward()  # through a part that is used up
    np.testing.assert_array_equal(grad_of(x), [2])


def test_backward_of_more_than_a_number_needs_gy() -> None:
    y = leaf(1.0, 2.0) * 2.0
    with pytest.raises(ValueError, match="needs gy of the same shape"):
        y.backward()
    with pytest.raises(ValueError, match="gy is float64"):
        y.backward(np.ones(3))
    with pytest.raises(ValueError, match="gy is float32"):
        y.backward(np.ones(2, np.float32))
    for gy in ([1, 1], leaf(1.0, 1.0)):
        with pytest.raises(TypeError, match=r"gy must be an array, not (list|Tensor)"):
            y.backward(gy)  # type: ignore[arg-type]


def test_dtypes_are_not_mixed() -> None:
    with pytest.raises(TypeError, match=r"Add: the inputs must share one dtype.*float32.*float64"):
        leaf(1.0) + Tensor([1.0])
    with pytest.raises(TypeError, match="share one dtype"):
        leaf(1.0) * np.ones(1, np.float32)


def test_plain_numbers_take_the_dtype_of_the_tensor() -> None:
    for dtype in (np.float32, np.float64):
        x = Tensor(np.ones(2, dtype), requires_grad=True)
        y = ((2 - x) * 3 / 7 + 1.5) ** 2 - (1 / x).exp().log().mean() + x.max()
        assert y.dtype == dtype
        y.sum().backward()
        assert grad_of(x).dtype == dtype


def test_arrays_on_the_left() -> None:
    x = leaf(1.0, 2.0)
    for y, numbers in (
        (np.array([3.0, 4.0]) + x, [4, 6]),
        (np.array([3.0, 4.0]) * x, [3, 8]),
        (np.array([3.0, 4.0]) - x, [2, 2]),
        (np.array([3.0, 4.0]) / x, [3, 2]),
    ):
        assert isinstance(y, Tensor)
        np.testing.assert_array_equal(y.data, numbers)


def test_integers_cannot_require_a_gradient() -> None:
    with pytest.raises(TypeError, match="floating-point"):
        Tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match="already"):
        Tensor(leaf(1.0))


def test_lists_and_numbers_become_float32() -> None:
    assert Tensor([[1, 2], [3, 4]]).dtype == np.float32
    assert Tensor(1.5).item() == 1.5
    assert repr(Tensor([1.0], requires_grad=True)).endswith("requires_grad=True)")
    assert as_tensor(2, leaf(1.0)).dtype == np.float64
    assert len(leaf(1.0, 2.0)) == 2


def test_data_and_gradients_are_arrays_even_of_one_number() -> None:
    x = leaf(1.0, 2.0)
    loss = (x * x).sum() * 0.5
    assert isinstance(loss.data, np.ndarray)
    assert isinstance(loss.numpy(), np.ndarray)
    scalar = Tensor(np.array(3.0), requires_grad=True)
    (scalar * scalar).backward()
    assert isinstance(scalar.grad, np.ndarray)
    (scalar * 2.0).backward()
    assert isinstance(scalar.grad, np.ndarray)
    assert scalar.grad == 8


class WrongShape(Op):
    def forward(self, x: Any) -> Any:
        return x * 1

    def backward(self, gy: Any) -> tuple[Any]:
        return (gy[:1],)


class Silent(WrongShape):
    def backward(self, gy: Any) -> tuple[Any]:
        return (None,)


class WrongDtype(WrongShape):
    def backward(self, gy: Any) -> tuple[Any]:
        return (gy.astype(np.float32),)


def test_an_op_with_a_gradient_of_another_shape_is_named() -> None:
    with pytest.raises(
        RuntimeError, match=r"WrongShape.backward made a gradient of float64 \(1,\)"
    ):
        WrongShape()(leaf(1.0, 2.0)).sum().backward()
    with pytest.raises(RuntimeError, match=r"Silent.backward made no gradient"):
        Silent()(leaf(1.0, 2.0)).sum().backward()
    with pytest.raises(RuntimeError, match=r"made a gradient of float32 \(2,\) for float64"):
        WrongDtype()(leaf(1.0, 2.0)).sum().backward()


@given(
    st.sampled_from([((2, 3), (3,)), ((2, 3), (2, 1)), ((1, 3), (2, 1)), ((4, 2, 3), (1, 1, 3))]),
    st.sampled_from(["+", "-", "*", "/"]),
    st.integers(0, 2**32 - 1),
)
def test_broadcasting_sums_what_was_repeated(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], sign: str, seed: int
) -> None:
    """Against the same operation on operands that were repeated by hand, gradient by gradient."""
    rng = np.random.default_rng(seed)
    a, b = (Tensor(rng.uniform(1, 2, s), requires_grad=True) for s in shapes)
    full = np.broadcast_shapes(*shapes)
    wide = [Tensor(np.broadcast_to(t.data, full).copy(), requires_grad=True) for t in (a, b)]
    gy = rng.standard_normal(full)
    for left, right in ((a, b), wide):
        y = {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[sign]
        y.backward(gy)
    for narrow, repeated in zip((a, b), wide, strict=True):
        g = grad_of(repeated)
        extra = len(full) - narrow.ndim
        g = g.sum(axis=tuple(range(extra)))
        axes = tuple(i for i, n in enumerate(narrow.shape) if n == 1)
        np.testing.assert_allclose(grad_of(narrow), g.sum(axis=axes, keepdims=True), rtol=1e-12)


def test_a_graph_that_outlives_its_weights_is_refused() -> None:
    """Once an optimizer, load_state_dict or to() has changed an input, the gradient is lost."""
    layer = nn.Linear(2, 2, rng=np.random.default_rng(0))
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    state = {name: array.copy() for name, array in layer.state_dict().items()}
    optimizer = optim.SGD(layer.parameters(), 0.1)

    def step() -> None:
        layer(x).sum().backward()
        optimizer.step()

    for change in (step, lambda: layer.load_state_dict(state), lambda: layer.to(np.float32)):
        kept = layer(x).sum()
        change()
        grad = grad_of(x).copy()
        with pytest.raises(RuntimeError, match=r"Linear: an input was changed after the forward"):
            kept.backward()
        np.testing.assert_array_equal(grad_of(x), grad)
    layer(x).sum().backward()


def test_statistics_that_move_after_the_forward_pass_change_no_gradient() -> None:
    norm = nn.BatchNorm2d(2)
    x = leaf([[1.0, 2.0], [3.0, 5.0]]).reshape(2, 2).data.astype(np.float32)
    before = Tensor(x, requires_grad=True)
    norm.eval()(before).sum().backward()
    after, weight_gradient = Tensor(x, requires_grad=True), grad_of(norm.weight)
    norm.weight.grad = None
    y = norm.eval()(after).sum()
    norm.train()(Tensor(100 * x))
    y.backward()
    np.testing.assert_array_equal(grad_of(after), grad_of(before))
    np.testing.assert_array_equal(grad_of(norm.weight), weight_gradient)


def test_a_tensor_is_not_turned_into_an_array_silently() -> None:
    for convert in (np.asarray, np.array, np.median):
        with pytest.raises(TypeError, match=r"use tensor\.numpy\(\)"):
            convert(leaf(1.0))
