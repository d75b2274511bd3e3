"""The figures that judge a classifier, from its logits.

Images without a label (-1) count nowhere. Where scikit-learn has a figure, it is scikit-learn's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resnet_np.autograd import Tensor, cross_entropy, softmax
from resnet_np.data.tables import UNLABELLED

TOP = (3, 5)
BINS = 15


@dataclass(frozen=True)
class ClassFigures:
    """Of one class against all others. roc_auc is None where all images are of it, or none is."""

    images: int
    precision: float
    recall: float
    f1: float
    roc_auc: float | None


@dataclass(frozen=True)
class Figures:
    """Of a set of images. All but the loss are shares, from 0 to 1.

    loss : mean cross-entropy
    accuracy : share of right answers (top-1)
    top : for k of 3 and 5, how many images have their class among the k likeliest; only k below
        the number of classes
    macro_precision, macro_recall, macro_f1 : means over the classes that occur, among the labels or
        the answers; weighted_f1 : each by its number of images
    macro_roc_auc : mean over the classes that have one: how often an image of the class is given a
        higher probability of it than an image of another; None where no class has one
    calibration_error : see `reliability`
    classes : each class by itself, in order
    """

    images: int
    loss: float
    accuracy: float
    top: dict[int, float]
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_f1: float
    macro_roc_auc: float | None
    calibration_error: float
    classes: tuple[ClassFigures, ...]


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The loss of all images, computed in float64."""
    return float(cross_entropy(Tensor(logits.astype(np.float64)), labels).item())


def judge(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """All figures at once. logits: [N, K]; labels: int [N]. Raises ValueError without any label."""
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    known = labels != UNLABELLED
    logits, labels = logits[known].astype(np.float64), labels[known]
    if len(labels) == 0:
        raise ValueError("judge: no image has a label")
    probabilities, answers, k = softmax(logits), logits.argmax(axis=1), logits.shape[1]
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, answers, labels=np.arange(k), zero_division=0.0
    )
    aucs = [_roc_auc(labels == c, probabilities[:, c]) for c in range(k)]
    rows = zip(images.tolist(), precision.tolist(), recall.tolist(), f1.tolist(), aucs, strict=True)
    occurring = np.union1d(labels, answers)
    return Figures(
        images=len(labels),
        loss=mean_cross_entropy(logits, labels),
        accuracy=float((answers == labels).mean()),
        top={n: _top(logits, labels, n) for n in TOP if n < k},
        macro_precision=float(precision[occurring].mean()),
        macro_recall=float(recall[occurring].mean()),
        macro_f1=float(f1[occurring].mean()),
        weighted_f1=float(f1_score(labels, answers, average="weighted", zero_division=0.0)),
        macro_roc_auc=_mean([auc for auc in aucs if auc is not None]),
        calibration_error=reliability(probabilities, labels).error,
        classes=tuple(ClassFigures(*row) for row in rows),
    )


def _top(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """How often the label is among the k largest logits; of equal ones the first are taken."""
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((likeliest == labels[:, None]).any(axis=1).mean())


def _roc_auc(is_class: np.ndarray, probability: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    if is_class.all() or not is_class.any():
        return None
    return float(roc_auc_score(is_class, probability))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def judge_groups(
    logits: np.ndarray, labels: np.ndarray, groups: Sequence[str]
) -> dict[str, Figures]:
    """The figures of each group of images by itself, such as those of one camera.

    A classifier can be good on the whole and bad for some: see the lowest figure. Groups without a
    label are left out.
    """
    of_image = np.asarray(groups)
    found = sorted(set(of_image[labels != UNLABELLED].tolist()))
    return {name: judge(logits[of_image == name], labels[of_image == name]) for name in found}


@dataclass(frozen=True)
class Reliability:
    """Answers sorted into bins by how sure the network was of them.

    images, accuracy, confidence : for each bin how many answers there are, the share of right ones
        and the mean probability that the network gave them; NaN in an empty bin
    error : the expected calibration error (ECE), sum over bins of images / N * |accuracy -
        confidence|: 0 if of the answers given with 80 % four in five are right, and so on
    """

    images: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray
    error: float


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Guo et al. 2017, "On Calibration of Modern Neural Networks", equations 2 and 3.

    probabilities [N, K]; bin m has the answers with a probability above (m - 1) / bins, and not
    above m / bins.
    """
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        accuracy = np.bincount(place, right, bins) / images
        confidence = np.bincount(place, sure, bins) / images
    gaps = np.nan_to_num(np.abs(accuracy - confidence))
    return Reliability(images, accuracy, confidence, float((images * gaps).sum() / len(labels)))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int [classes, classes]: how many images of the row's class got the column's answer."""
    from sklearn.metrics import confusion_matrix as count

    known = labels != UNLABELLED
    return np.asarray(count(labels[known], predicted[known], labels=np.arange(classes)))
