"""Figures by hand."""

import numpy as np
import pytest
from sklearn import metrics

from resnet_np.training.metrics import (
    confusion_matrix,
    judge,
    judge_groups,
    mean_cross_entropy,
    reliability,
)


def test_figures_by_hand():
    # Answers 0, 1, 1, 1 to the classes 0, 0, 1, 1: F1 of class 0 is 2/3, of class 1 is 4/5.
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    figures = judge(logits, labels)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert figures.loss == pytest.approx((3 * right + wrong) / 4)
    assert figures.accuracy == 0.75
    assert figures.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert confusion_matrix(labels, logits.argmax(axis=1), 3).tolist() == [
        [1, 1, 0], [0, 2, 0], [0, 0, 0],
    ]  # fmt: skip


def test_large_logits_do_not_overflow():
    logits = np.array([[1000.0, 0.0], [-1000.0, 0.0]])
    assert mean_cross_entropy(logits, np.array([0, 0])) == pytest.approx(500.0)


def random_case(seed: int, n: int = 60, k: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return rng.standard_normal((n, k)) + 2 * np.eye(k)[labels] * rng.random((n, 1)), labels


def test_top_k_counts_the_first_of_equal_ones() -> None:
    logits = np.array([[3.0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert judge(logits, np.array([2, 2, 3, 0])).top == {3: 0.5}
    assert judge(*random_case(0, k=3)).top == {}
    assert list(judge(*random_case(0, k=6)).top) == [3, 5]


def test_what_sklearn_says() -> None:
    logits, labels = random_case(1)
    figures, answers = judge(logits, labels), logits.argmax(axis=1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert figures.accuracy == metrics.accuracy_score(labels, answers)
    assert figures.top[3] == pytest.approx(metrics.top_k_accuracy_score(labels, logits, k=3))
    for name, score in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
        expected = score(labels, answers, average="macro")
        assert getattr(figures, f"macro_{name}") == pytest.approx(expected)
    assert figures.macro_f1 == pytest.approx(metrics.f1_score(labels, answers, average="macro"))
    expected = metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert figures.macro_roc_auc == pytest.approx(expected)
    each = metrics.f1_score(labels, answers, average=None)
    assert [c.f1 for c in figures.classes] == pytest.approx(each.tolist())
    assert [c.images for c in figures.classes] == np.bincount(labels).tolist()


def test_a_class_that_does_not_occur_has_no_roc_auc_and_no_say() -> None:
    logits = np.array([[2.0, 0, -9], [0, 2.0, -9]])
    figures = judge(logits, np.array([0, 1]))
    assert [c.roc_auc for c in figures.classes] == [1, 1, None]
    assert (figures.macro_f1, figures.macro_roc_auc) == (1, 1)
    assert judge(logits[:1], np.array([0])).macro_roc_auc is None


def test_images_without_a_label_count_nowhere() -> None:
    logits, labels = random_case(2)
    expected = judge(logits, labels)
    mixed = np.insert(labels, [0, 30, 60], -1)
    with_others = np.insert(logits, [0, 30, 60], 99.0, axis=0)
    assert judge(with_others, mixed) == expected
    matrix = confusion_matrix(mixed, with_others.argmax(axis=1), 7)
    assert matrix.sum() == 60
    with pytest.raises(ValueError, match="no image has a label"):
        judge(logits, np.full(60, -1))


def test_reliability_by_hand() -> None:
    """Two bins: (0, 0.5] with one wrong answer at 0.5, (0.5, 1] with 0.6 right and 0.9 wrong."""
    probabilities = np.array([[0.5, 0.5], [0.6, 0.4], [0.1, 0.9]])
    found = reliability(probabilities, np.array([1, 0, 0]), bins=2)
    assert found.images.tolist() == [1, 2]
    assert found.accuracy.tolist() == [0, 0.5]
    assert found.confidence.tolist() == pytest.approx([0.5, 0.75])
    assert found.error == pytest.approx((0.5 + 2 * 0.25) / 3)


def test_who_is_as_sure_as_right_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 40_000)
    labels = np.where(rng.random(len(sure)) < sure, 0, 1)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    assert reliability(probabilities, labels).error < 0.02
    assert reliability(probabilities, np.ones_like(labels)).error == pytest.approx(sure.mean())


def test_groups_are_judged_by_themselves() -> None:
    logits, labels = random_case(3)
    groups = ["north", "south", "north", "nobody knows"] * 15
    labels[3::4] = -1
    found = judge_groups(logits, labels, groups)
    assert list(found) == ["north", "south"]
    assert found["south"] == judge(logits[1::4], labels[1::4])
    assert found["north"].images == 30
