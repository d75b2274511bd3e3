"""The figures that judge a classifier, from its logits."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figures:
    """Mean cross-entropy, share of right answers, and F1 averaged over the classes."""

    loss: float
    accuracy: float
    macro_f1: float


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, float64 [N, K]."""
    z = logits.astype(np.float64)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over n of log(sum over k of exp(z[n,k])) - z[n,labels[n]], in float64."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]))


def judge(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """All figures at once. logits: [N, K]; labels: int [N]."""
    from sklearn.metrics import accuracy_score, f1_score

    predicted = logits.argmax(axis=1)
    return Figures(
        loss=mean_cross_entropy(logits, labels),
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
    )


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int [classes, classes]: how many images of the row's class got the column's answer."""
    from sklearn.metrics import confusion_matrix as count

    return np.asarray(count(labels, predicted, labels=np.arange(classes)))
