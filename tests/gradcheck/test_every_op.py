"""Every op that can be differentiated, checked at shapes, strides and paddings from hypothesis."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from devices import devices
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet_np import autograd, check_gradients
from resnet_np.autograd import Op, Tensor, arithmetic
from resnet_np.device import to_device
from resnet_np.kernels import get_array_module

Draw = Callable[[Any], Any]  # takes a strategy, gives a value
Case = tuple[Callable[..., Tensor], list[Any]]
CASES: dict[str, Callable[[Draw, np.random.Generator], Case]] = {}


def case(make: Callable[[Draw, np.random.Generator], Case]) -> Any:
    """Register a case under the name of the function that it checks."""
    CASES[make.__name__.removesuffix("_")] = make
    return make


# --- arithmetic ----------------------------------------------------------------------------------

BROADCAST = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((1, 3), (2, 1)), ((), (4,))]


def operands(draw: Draw, rng: np.random.Generator) -> list[Any]:
    return [rng.uniform(0.5, 2, shape) for shape in draw(st.sampled_from(BROADCAST))]


@case
def add(draw: Draw, rng: np.random.Generator) -> Case:
    return arithmetic.add, operands(draw, rng)


@case
def subtract(draw: Draw, rng: np.random.Generator) -> Case:
    return arithmetic.subtract, operands(draw, rng)


@case
def multiply(draw: Draw, rng: np.random.Generator) -> Case:
    return arithmetic.multiply, operands(draw, rng)


@case
def divide(draw: Draw, rng: np.random.Generator) -> Case:
    return arithmetic.divide, operands(draw, rng)


@case
def astype(draw: Draw, rng: np.random.Generator) -> Case:
    """To numbers with more digits, where differences can still be seen, and back."""
    return lambda x: x.astype(np.longdouble).astype(np.float64), [rng.standard_normal((2, 3))]


@case
def matmul(draw: Draw, rng: np.random.Generator) -> Case:
    left, right = draw(
        st.sampled_from(
            [((2, 3), (3, 4)), ((5, 2, 3), (3, 1)), ((2, 3), (5, 3, 2)), ((5, 1, 2), (5, 2, 1))]
        )
    )
    return arithmetic.matmul, [rng.standard_normal(left), rng.standard_normal(right)]


@case
def power(draw: Draw, rng: np.random.Generator) -> Case:
    exponent = draw(st.sampled_from([1, 2, 3, -1, 0.5]))
    return lambda x: x**exponent, [rng.uniform(0.5, 2, (2, 3))]


@case
def exp(draw: Draw, rng: np.random.Generator) -> Case:
    return arithmetic.exp, [rng.standard_normal(draw(st.sampled_from([(), (3,), (2, 3)])))]


@case
def log(draw: Draw, rng: np.random.Generator) -> Case:
    return arithmetic.log, [rng.uniform(0.5, 2, draw(st.sampled_from([(), (3,), (2, 3)])))]


def reduction(draw: Draw, rng: np.random.Generator, axes: list[Any]) -> tuple[Any, Any, Any]:
    return rng.standard_normal((2, 3, 2)), draw(st.sampled_from(axes)), draw(st.booleans())


@case
def sum_(draw: Draw, rng: np.random.Generator) -> Case:
    x, axis, keepdims = reduction(draw, rng, [None, 0, 1, -1, (0, 2), (-1, 1)])
    return lambda t: t.sum(axis, keepdims), [x]


@case
def mean(draw: Draw, rng: np.random.Generator) -> Case:
    x, axis, keepdims = reduction(draw, rng, [None, 0, 1, -1, (0, 2), (-1, 1)])
    return lambda t: t.mean(axis, keepdims), [x]


@case
def max_(draw: Draw, rng: np.random.Generator) -> Case:
    x, axis, keepdims = reduction(draw, rng, [None, 0, 1, -1])
    return lambda t: t.max(axis, keepdims), [x]


@case
def reshape(draw: Draw, rng: np.random.Generator) -> Case:
    shape = draw(st.sampled_from([(6,), (3, 2), (1, -1), (2, 1, 3)]))
    return lambda x: x.reshape(*shape), [rng.standard_normal((2, 3))]


@case
def flatten(draw: Draw, rng: np.random.Generator) -> Case:
    return autograd.flatten, [rng.standard_normal((draw(st.integers(1, 3)), 2, 3, 1))]


@case
def transpose(draw: Draw, rng: np.random.Generator) -> Case:
    axes = draw(st.sampled_from([(), (0, 1, 2), (1, 2, 0), (2, 0, 1), (0, -1, 1)]))
    return lambda x: x.transpose(*axes), [rng.standard_normal((2, 3, 4))]


# --- layers' ops ---------------------------------------------------------------------------------

small = st.integers(1, 3)
strides = st.one_of(small, st.tuples(small, small))


def window(draw: Draw, rng: np.random.Generator, share: int) -> tuple[Any, Any, Any, Any]:
    """(x, size, stride, padding); at most `size / share` pixels of padding."""
    size = draw(small), draw(small)
    padding = draw(
        st.one_of(
            st.sampled_from(["same", "valid"]),
            st.tuples(*(st.integers(0, (n - 1) // share) for n in size)),
        )
    )
    shape = [draw(st.integers(1, 2)), *(draw(st.integers(n, n + 3)) for n in size), draw(small)]
    return rng.standard_normal(shape), size, draw(strides), padding


@case
def conv2d(draw: Draw, rng: np.random.Generator) -> Case:
    x, size, stride, padding = window(draw, rng, share=1)
    k = draw(small)
    inputs = [x, rng.standard_normal((*size, x.shape[3], k))]
    if draw(st.booleans()):
        inputs.append(rng.standard_normal(k))

    def f(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return autograd.conv2d(x, w, b, stride, padding)

    return f, inputs


@case
def linear(draw: Draw, rng: np.random.Generator) -> Case:
    n, c, k = draw(small), draw(small), draw(small)
    inputs = [rng.standard_normal((n, c)), rng.standard_normal((c, k))]
    return autograd.linear, [*inputs, rng.standard_normal(k)][: draw(st.sampled_from([2, 3]))]


@case
def max_pool2d(draw: Draw, rng: np.random.Generator) -> Case:
    x, *where = window(draw, rng, share=2)
    return lambda t: autograd.max_pool2d(t, *where), [x]


@case
def avg_pool2d(draw: Draw, rng: np.random.Generator) -> Case:
    x, *where = window(draw, rng, share=2)
    return lambda t: autograd.avg_pool2d(t, *where), [x]


@case
def global_avg_pool(draw: Draw, rng: np.random.Generator) -> Case:
    return autograd.global_avg_pool, [rng.standard_normal([draw(small) for _ in range(4)])]


@case
def upsample_nearest(draw: Draw, rng: np.random.Generator) -> Case:
    factor = draw(strides)
    x = rng.standard_normal([draw(small) for _ in range(4)])
    return lambda t: autograd.upsample_nearest(t, factor), [x]


@case
def relu(draw: Draw, rng: np.random.Generator) -> Case:
    x: Any = rng.standard_normal(draw(st.sampled_from([(1,), (3, 4), (2, 2, 3, 1)])))
    x.flat[0] = 1  # one is open
    return autograd.relu, [x]


@case
def dropout(draw: Draw, rng: np.random.Generator) -> Case:
    p, seed = draw(st.sampled_from([0.0, 0.3])), draw(st.integers(0, 9))
    return lambda x: autograd.dropout(x, p, np.random.default_rng(seed)), [np.ones((4, 10))]


def norm_inputs(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], bool]:
    """[x, gamma, beta(, residual)], and whether there is a ReLU."""
    shape = draw(st.sampled_from([(8, 3), (2, 3, 3, 2), (1, 4, 2, 3)]))
    c = shape[-1]
    # beta = 1 leaves most ReLUs open
    inputs = [rng.standard_normal(shape), rng.uniform(0.5, 1.5, c), 1 + rng.uniform(0, 1, c)]
    return inputs + [rng.standard_normal(shape)] * draw(st.integers(0, 1)), draw(st.booleans())


@case
def batch_norm(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, relu = norm_inputs(draw, rng)

    def f(x: Tensor, gamma: Tensor, beta: Tensor, residual: Tensor | None = None) -> Tensor:
        return autograd.batch_norm(x, gamma, beta, residual=residual, relu=relu)[0]

    return f, inputs


@case
def fixed_batch_norm(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, relu = norm_inputs(draw, rng)
    c = inputs[1].shape
    mean, var = rng.standard_normal(c), rng.uniform(0.5, 2, c)

    def f(x: Tensor, gamma: Tensor, beta: Tensor, residual: Tensor | None = None) -> Tensor:
        fixed = [get_array_module(x.data).asarray(array) for array in (mean, var)]
        return autograd.fixed_batch_norm(x, gamma, beta, *fixed, residual=residual, relu=relu)

    return f, inputs


@case
def cross_entropy(draw: Draw, rng: np.random.Generator) -> Case:
    n, k = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    targets: Any = rng.integers(0, k, n)
    if draw(st.booleans()):
        targets = rng.dirichlet(np.ones(k), n)
    elif n > 1:
        targets[0] = -1
    options: dict[str, Any] = {
        "class_weights": draw(st.sampled_from([None, rng.uniform(0.5, 2, k)])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }
    x = rng.standard_normal((n, k))
    return lambda logits: autograd.cross_entropy(logits, targets, **options), [x]


# --- the checks ----------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_op(name: str, device: str, data: st.DataObject) -> None:
    if (name, device) == ("astype", "gpu"):
        pytest.skip("a card has no numbers with more digits than float64")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    f, inputs = CASES[name](data.draw, rng)
    checked = check_gradients(f, [to_device(x, device) for x in inputs])
    assert len(checked) == len(inputs)


def files() -> list[ModuleType]:
    found = pkgutil.iter_modules(autograd.__path__)
    return [importlib.import_module(f"{autograd.__name__}.{module.name}") for module in found]


def test_every_public_function_of_tensors_has_a_check() -> None:
    functions = {
        name
        for module in files()
        for name, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and not name.startswith("_")
        and "Tensor" in str(inspect.signature(f).return_annotation)
        and name != "as_tensor"  # turns numbers into constants
    }
    assert set(CASES) == functions


@settings(max_examples=1)
@given(data=st.data())
def test_every_op_class_is_behind_a_check(data: st.DataObject) -> None:
    classes = {
        value
        for module in files()
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Op) and value is not Op
    }
    ran = set()
    call = Op.__call__

    def noted(op: Op, *inputs: Any) -> Tensor:
        ran.add(type(op))
        return call(op, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Op, "__call__", noted)
        for make in CASES.values():
            f, inputs = make(data.draw, np.random.default_rng(0))
            f(*[Tensor(x) for x in inputs])
    assert ran == classes
