"""Recipes say what one would type; what is typed comes before them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.arguments import read_arguments
from resnet_np.errors import UserError
from resnet_np.finetune import make_parser
from resnet_np.training.callbacks import FIGURES
from resnet_np.training.options import KEPT, OPTIMIZERS, Options, Phase
from resnet_np.training.recipe import recipe_text

RATES = st.floats(0, 10, allow_nan=False)
SOME_RATE = st.none() | RATES
COUNTS = st.integers(1, 1000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: not text.startswith("-")
)
STAGES = st.sampled_from(["stem", "layer1", "layer4", "fc"])
PHASES = st.builds(Phase, STAGES, COUNTS, SOME_RATE, SOME_RATE, st.none(), SOME_RATE)
OPTIONS = st.builds(
    Options, data=st.none() | TEXTS, unfreeze=STAGES, recalibrate=st.booleans(),
    head=st.lists(COUNTS, max_size=3).map(tuple), dropout=st.floats(0, 0.99), epochs=COUNTS,
    accumulate=COUNTS, optimizer=st.sampled_from(sorted(OPTIMIZERS)), lr=SOME_RATE,
    head_lr=SOME_RATE, weight_decay=SOME_RATE, schedule=st.sampled_from(["Step(3)", "Cosine"]),
    augment=st.none() | TEXTS, views=st.integers(0, 5), patience=st.none() | COUNTS,
    keep=st.sampled_from(KEPT), watch=st.sampled_from([*FIGURES]), seed=st.integers(0, 2**40),
    cache=st.booleans(), doctor=st.booleans(),
)  # fmt: skip


def read(path: Path, *typed: str) -> Options:
    return Options(**read_arguments(make_parser(), ["--recipe", str(path), *typed]))


@given(OPTIONS, st.lists(PHASES, max_size=3).map(tuple))
def test_a_written_recipe_says_the_same(tmp_path_factory, options, phases):
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    given = vars(options) | {"phases": phases}
    if phases:
        given |= {"epochs": Options.epochs, "unfreeze": Options.unfreeze}
    path.write_bytes(recipe_text(Options(**given)).encode())
    assert read(path) == Options(**given)


@pytest.fixture
def recipe(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "r.toml"
        path.write_text(text, "utf-8")
        return path

    return write


PHASED = """
lr = 0.25
batch-size = 8

[[phases]]
unfreeze = "fc"
epochs = 2

[[phases]]
unfreeze = "layer4"
epochs = 3
lr = 1e-4
schedule = "MultiStep((1, 2), gamma=0.5)"
"""


def test_what_is_typed_comes_first(recipe):
    path = recipe(PHASED)
    phases = (Phase("fc", 2), Phase("layer4", 3, 1e-4, schedule="MultiStep((1, 2), gamma=0.5)"))
    assert read(path) == Options(lr=0.25, batch_size=8, phases=phases)
    assert read(path, "--lr", "0.5") == Options(lr=0.5, batch_size=8, phases=phases)
    assert read(path, "--epochs", "7") == Options(lr=0.25, batch_size=8, epochs=7)
    one = read(path, "--phase", "unfreeze=stem; epochs=9; head_lr=0.5; warmup=1.5")
    assert one.phases == (Phase("stem", 9, head_lr=0.5, warmup=1.5),)
    assert [(o.unfreeze, o.epochs, o.lr) for o in read(path).by_phase()] == [
        ("fc", 2, 0.25), ("layer4", 3, 1e-4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = ", r"r.toml: is no TOML: Invalid value"),
        ("epoch = 3", r"r.toml: there is no option 'epoch'; did you mean epochs\?"),
        ("zz = 3", r"r.toml: there is no option 'zz'$"),
        ("epochs = 0", r"r.toml: argument --epochs: must be a whole number of 1 or more, not '0'"),
        ("epochs = [[1]]", r"r.toml: epochs must be a text, a number or a list of numbers"),
        ("[epochs]\na = 1", r"r.toml: epochs must be a text, a number or a list of numbers"),
        ("optimizer = 'lion'", r"r.toml: argument --optimizer: invalid choice: 'lion'"),
        ("phases = 3", r"r.toml: phases are tables, each under a line \[\[phases\]\]"),
        ("[[phases]]\nepochs = 3", r"r.toml: argument --phase: needs unfreeze=STAGE and epochs=N"),
        ("[[phases]]\nwings = 3", r"argument --phase: has unfreeze, epochs, lr, .* and no 'wings'"),
        ("[[phases]]\nunfreeze='pod'\nepochs=3", r"unfreeze is one of stem, .*, not 'pod'"),
        ("[[phases]]\nunfreeze='fc'\nepochs='x'", r"--phase: epochs must be a whole number of 1"),
        (
            PHASED.replace("lr =", "epochs = 3\nlr =", 1),
            r"r.toml: --epochs: the phases say it; leave one",
        ),
        ("data = '\x00'", r"r.toml: is no TOML"),
    ],
)
def test_what_is_no_recipe(recipe, text, said):
    path = recipe(text)
    with pytest.raises(UserError, match=said) as refusal:
        read(path)
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"r.toml: is no TOML"):
        read(tmp_path / "r.toml")
    with pytest.raises(UserError, match=r"none.toml: cannot be read: No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "r.toml").write_bytes(b"#" * 2**21)
    with pytest.raises(UserError, match=r"r.toml: is no recipe: it has more than"):
        read(tmp_path / "r.toml")
    with pytest.raises(UserError, match="--recipe: a run that goes on has its options; leave it"):
        read_arguments(make_parser(), ["--recipe", "r.toml", "--resume", "a.npz"])
