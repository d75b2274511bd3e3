"""How right a network is about images whose classes are known."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_np.autograd import softmax
from resnet_np.data.class_names import ClassNames
from resnet_np.data.sources import Entry
from resnet_np.data.tables import UNLABELLED
from resnet_np.errors import UserError, some
from resnet_np.weights.atomic import atomic_file


@dataclass(frozen=True)
class Answers:
    """What a network said of images: logits [N, K], and the true labels, -1 where unknown.

    classes: the network's, in the order of K.
    """

    entries: tuple[Entry, ...]
    logits: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def label_entries(
    entries: Sequence[Entry], classes: tuple[str, ...], names: ClassNames | None
) -> np.ndarray:
    """The network's number for each entry's class: int64 [N], -1 where an entry has none.

    names : what the classes of the entries are called, if the network knows them by other names

    Raises UserError for classes that the network does not know, or has two of.
    """
    found = sorted({entry.label for entry in entries if entry.label is not None})
    called = dict(zip(found, names.readable(found) if names else found, strict=True))
    numbers = {name: k for k, name in enumerate(classes)}
    unknown = [f"{name} ({called[name]})" if names else name for name in found
               if called[name] not in numbers]  # fmt: skip
    if unknown:
        hint = "" if names else "; --names FILE says what these are called"
        raise UserError(
            f"the network has no class called {some(unknown)}; it knows {some(list(classes))}{hint}"
        )
    twice = [called[name] for name in found if classes.count(called[name]) > 1]
    if twice:
        raise UserError(
            f"the network has more than one class called {some(twice)}, so nobody can tell which "
            "is meant; leave these images out"
        )
    return np.array(
        [UNLABELLED if e.label is None else numbers[called[e.label]] for e in entries], np.int64
    )


def write_answers(path: Path, answers: Answers) -> None:
    """A CSV with a line for each image: path, its class, the answer, and each class's probability.

    Written whole or not at all. Raises UserError if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "answer", *answers.classes])
    probabilities = softmax(answers.logits.astype(np.float64))
    for entry, label, shares in zip(answers.entries, answers.labels, probabilities, strict=True):
        known = "" if label == UNLABELLED else answers.classes[label]
        numbers = [f"{share:.6f}" for share in shares]
        writer.writerow([entry.name, known, answers.classes[shares.argmax()], *numbers])
    with atomic_file(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))
