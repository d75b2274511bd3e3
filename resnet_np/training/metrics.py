"""The figures that judge a classifier, from its logits."""

from dataclasses import dataclass

import numpy as np

from resnet_np.autograd import Tensor, cross_entropy


@dataclass(frozen=True)
class Figures:
    """Mean cross-entropy, share of right answers, and F1 averaged over the classes."""

    loss: float
    accuracy: float
    macro_f1: float


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The loss of all images, computed in float64."""
    return float(cross_entropy(Tensor(logits.astype(np.float64)), labels).item())


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
