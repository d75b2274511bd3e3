"""Figures by hand."""

import numpy as np
import pytest

from resnet_np.training.metrics import confusion_matrix, judge, mean_cross_entropy


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
