"""The report says what the run has come to, and needs nothing but itself."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from resnet_np.data.doctor import Diagnosis, Finding
from resnet_np.data.loader import ArrayImages
from resnet_np.training.metrics import judge
from resnet_np.training.options import Options
from resnet_np.training.page import Outcome, confident_mistakes, peak_memory, write_page
from resnet_np.training.plots import draw_confusion, draw_curves

CLASSES = ("<b>cat</b>", "dog & co", "\udcff")
N = 30
RNG = np.random.default_rng(0)
IMAGES = ArrayImages(RNG.integers(0, 256, (N, 40, 40, 3), np.uint8), np.arange(N) % 3, CLASSES)
LOGITS = RNG.standard_normal((N, 3)).astype(np.float32) * 3
HISTORY = [
    {"epoch": e, "train_loss": 1 / e, "train_accuracy": 0.5, "validation_loss": 1.0,
     "validation_accuracy": 0.5, "seconds": 2.0, "waiting": 0.5}
    for e in (1, 2)
]  # fmt: skip
FOUND = Finding("leak", ("a/<i>.png", "b/x.png"), "same content; in test and train")
DIAGNOSIS = Diagnosis(
    "photos", 224, 30, 2, {"train": dict.fromkeys("123", 9)}, {}, (FOUND,) * 7
)  # fmt: skip


@pytest.fixture
def page(tmp_path) -> str:
    splits = {"train": IMAGES, "validation": IMAGES, "test": IMAGES}
    logits = dict.fromkeys(splits, LOGITS)
    options = Options(data="photos", augment="RandomHorizontalFlip()")
    outcome = Outcome(
        options, "best.npz", logits, splits, HISTORY, None, DIAGNOSIS, ["all <wrong>"], 12.34
    )  # fmt: skip
    figures = {name: judge(LOGITS, IMAGES.labels) for name in splits}
    (tmp_path / "my run").mkdir()
    pictures = draw_curves(HISTORY), draw_confusion(np.eye(3), CLASSES, "test images")
    write_page(tmp_path / "my run" / "report.html", outcome, figures, *pictures)
    return (tmp_path / "my run" / "report.html").read_text("utf-8")


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k.endswith(("src", "href")) and v]

    def handle_data(self, data):
        self.texts.append(data)


def test_nothing_is_fetched_and_nothing_runs(page):
    elements = Elements(page)
    assert not {"script", "link", "iframe"} & set(elements.tags)
    assert all(address.startswith(("data:image/", "#")) for address in elements.addresses)
    assert "@import" not in page


def test_it_says_what_there_is(page):
    texts = Elements(page).texts
    everything = " ".join(" ".join(texts).split())
    accuracy = judge(LOGITS, IMAGES.labels).accuracy
    assert f"{100 * accuracy:.1f} % of 30 test images are right, in 3 classes." in everything
    for said in (
        "4.0 s, 25% of it waiting for images", "12.3 s", "30 images, 2 of them without a label",
        "a/<i>.png = b/x.png same content; in test and train", "and 2 more", 'data = "photos"',
        "recipe.toml'", "calibration error", "Judged is best.npz, which began with the embedded",
        "Warning: all <wrong>.", "ROC-AUC",
    ):  # fmt: skip
        assert said in everything, said
    # The doctor's classes, as the folders are called, whatever the network calls them.
    assert "train 1 9 2 9 3 9 all classes 27" in everything
    assert page.count("<svg") == 2


def test_names_are_text(page):
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "dog &amp; co" in page


def test_the_surest_mistakes_come_first():
    logits = np.eye(3, dtype=np.float32)[IMAGES.labels] * 9
    for i, certainty in ((4, 2.0), (7, 5.0), (11, 3.0)):
        logits[i] = np.roll(np.eye(3)[IMAGES.labels[i]], 1) * certainty
    found = confident_mistakes(logits, IMAGES)
    assert [m.name for m in found] == ["image 7", "image 11", "image 4"]
    assert found[0].label == CLASSES[1]
    assert found[0].answer == CLASSES[2]
    assert found[0].probability == pytest.approx(np.exp(5) / (np.exp(5) + 2), rel=1e-6)
    assert re.match(r"data:image/jpeg;base64,[\w+/=]+$", found[0].picture)
    assert confident_mistakes(np.eye(3)[IMAGES.labels], IMAGES) == []


def test_the_memory_of_this_process():
    memory = peak_memory()
    assert memory is None or 2**24 < memory < 2**40
