"""Cross-entropy against numbers worked out by hand and against its definition, composed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np import Tensor, cross_entropy, softmax

LOG2, LOG3 = np.log(2.0), np.log(3.0)


def logits(*rows: list[float]) -> Tensor:
    return Tensor(np.array(rows, np.float64), requires_grad=True)


def test_by_hand() -> None:
    x = logits([0, 0], [0, LOG3])  # probabilities 1/2, 1/2 and 1/4, 3/4
    t = np.array([0, 1])
    assert cross_entropy(x, t).item() == pytest.approx((LOG2 + np.log(4 / 3)) / 2)
    assert cross_entropy(x, t, reduction="sum").item() == pytest.approx(LOG2 + np.log(4 / 3))
    rows = cross_entropy(x, t, reduction="none")
    np.testing.assert_allclose(rows.data, [LOG2, np.log(4 / 3)])
    cross_entropy(x, t).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, [[-0.25, 0.25], [0.125, -0.125]])


def test_class_weights_divide_by_the_weight_that_counts() -> None:
    x = logits([0, 0], [0, LOG3])
    loss = cross_entropy(x, np.array([0, 1]), class_weights=np.array([1.0, 3.0]))
    assert loss.item() == pytest.approx((LOG2 + 3 * np.log(4 / 3)) / 4)


def test_ignored_rows_count_nowhere() -> None:
    x = logits([0, 0], [5, -5])
    loss = cross_entropy(x, np.array([0, -1]))
    assert loss.item() == pytest.approx(LOG2)
    loss.backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad[1], [0, 0])
    x = logits([0, 0], [5, -5])
    smooth = cross_entropy(x, np.array([0, 7]), ignore_index=7, label_smoothing=0.5)
    assert smooth.item() == pytest.approx(LOG2)


def test_label_smoothing() -> None:
    x = logits([0, LOG3])
    # target (0.1, 0.9): half of 0.2 goes to each of the two classes
    loss = cross_entropy(x, np.array([1]), label_smoothing=0.2)
    assert loss.item() == pytest.approx(0.1 * np.log(4) + 0.9 * np.log(4 / 3))


def test_probabilities() -> None:
    x = logits([0, LOG3], [0, 0])
    t = np.array([[0.5, 0.5], [1.0, 0.0]])
    expected = (0.5 * np.log(4) + 0.5 * np.log(4 / 3) + LOG2) / 2
    assert cross_entropy(x, t).item() == pytest.approx(expected)


def test_a_certain_wrong_answer_has_a_finite_loss() -> None:
    x = Tensor(np.array([[1000.0, 0.0]], np.float32), requires_grad=True)
    loss = cross_entropy(x, np.array([1]))
    assert loss.item() == 1000
    loss.backward()
    np.testing.assert_array_equal(x.grad, [[1, -1]])


def composed(x: Tensor, t: Any, weights: Any, smoothing: float, ignored: int) -> Tensor:
    """The definition, in the tape's own arithmetic, one row after the other."""
    k = x.shape[1]
    shifted = x - x.data.max(axis=1, keepdims=True)
    log_p = shifted - shifted.exp().sum(axis=1, keepdims=True).log()
    wanted, total = np.zeros(x.shape), 0.0
    for n in range(len(x)):
        if t.ndim == 2:
            wanted[n] = ((1 - smoothing) * t[n] + smoothing / k) * weights
            total += 1
        elif t[n] != ignored:
            wanted[n] = ((1 - smoothing) * (np.arange(k) == t[n]) + smoothing / k) * weights
            total += weights[t[n]]
    return (log_p * wanted).sum() * (-1 / total)


@given(
    st.integers(1, 4),
    st.integers(2, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 2**32 - 1),
)
def test_against_the_definition(
    n: int, k: int, hard: bool, weighted: bool, smoothing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, k)) * 3
    t: Any = rng.integers(0, k, n) if hard else rng.dirichlet(np.ones(k), n)
    if hard and n > 1:
        t[0] = -1
    weights = rng.uniform(0.5, 2, k) if weighted else np.ones(k)
    a, b = Tensor(values, requires_grad=True), Tensor(values.copy(), requires_grad=True)
    loss = cross_entropy(a, t, weights if weighted else None, smoothing)
    expected = composed(b, t, weights, smoothing, -1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
    expected.backward()
    assert a.grad is not None and b.grad is not None
    np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_nothing_counts() -> None:
    """A mean over no rows does not exist; their sum and their losses are zero."""
    x, t = logits([0, 0], [5, -5]), np.array([-1, -1])
    assert cross_entropy(x, t, reduction="sum").item() == 0
    np.testing.assert_array_equal(cross_entropy(x, t, reduction="none").data, [0, 0])
    with pytest.raises(ValueError, match="no mean exists"):
        cross_entropy(Tensor(np.zeros((0, 2))), np.zeros((0, 2)))


def test_targets_are_arrays() -> None:
    x = logits([0, 0])
    for targets, weights in ((Tensor(np.array([0])), None), (np.array([0]), Tensor(np.ones(2)))):
        with pytest.raises(TypeError, match=r"are arrays: pass tensor\.data"):
            cross_entropy(x, targets, weights)


def test_softmax() -> None:
    np.testing.assert_allclose(softmax(np.array([[0.0, LOG3]])), [[0.25, 0.75]])


@pytest.mark.parametrize(
    ("x", "t", "options", "message"),
    [
        (np.zeros(3), np.array([0]), {}, r"logits must be \[N, K\]"),
        (np.zeros((2, 3)), np.array([0]), {}, "2 rows need 2 targets"),
        (np.zeros((2, 3)), np.array([0, 3]), {}, r"targets must be 0..2 or -1"),
        (np.zeros((2, 3)), np.array([0, -2]), {}, r"targets must be 0..2 or -1"),
        (np.zeros((2, 3)), np.array([-1, -1]), {}, "every row is ignored"),
        (np.zeros((2, 3)), np.zeros((2, 2)), {}, r"probabilities must be \(2, 3\)"),
        (np.zeros((1, 2)), np.array([[1.5, -0.5]]), {}, "must not be negative"),
        (np.zeros((1, 2)), np.array([0]), {"label_smoothing": 1.1}, r"must be in \[0, 1\]"),
        (np.zeros((2, 3)), np.array([0, 1]), {"reduction": "avg"}, "reduction is"),
        (np.zeros((2, 3)), np.array([0, 1]), {"class_weights": np.ones(2)}, "class_weights"),
    ],
)
def test_errors(x: Any, t: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cross_entropy(Tensor(x), t, **options)
