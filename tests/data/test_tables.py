"""Tables become samples; whatever is wrong with one is said with its line."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_np.data.sources import scan
from resnet_np.data.tables import order_classes, read_table, scan_table
from resnet_np.errors import UserError


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def write(folder: Path, text: str | bytes, name: str = "images.csv") -> Path:
    """A table, and an empty file for each name in it that ends in .png."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for row in path.read_text(errors="replace").splitlines():
        for word in row.replace("\t", ",").split(","):
            if word.strip().endswith(".png"):
                file = folder / word.strip()
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    return path


def rows_of(labels: list[str], extra: str = "") -> str:
    return "".join(f"{i}.png,{label}{extra}\n" for i, label in enumerate(labels))


def test_by_hand(tmp_path):
    path = write(
        tmp_path,
        "path,label,split,camera\n"
        "a/1.png,cat,train,old\n"
        "a/2.png,dog,Train,new\n"
        "\n"
        'b/3.png," cat ",val,"new, red"\n'
        "b/4.png,dog,test,\n"
        "b/5.png,-1,test,old\n"
        "b/6.png,,,new\n",
    )
    parts = scan_table(path, rng())
    shown = {
        name: [(str(p.relative_to(tmp_path)), y) for p, y in zip(s.paths, s.labels, strict=True)]
        for name, s in parts.items()
    }
    assert shown == {
        "train": [("a/1.png", 0), ("a/2.png", 1)],
        "validation": [("b/3.png", 0)],
        "test": [("b/4.png", 1)],
        "unlabelled": [("b/5.png", -1), ("b/6.png", -1)],
    }
    assert {name: s.columns["camera"] for name, s in parts.items()} == {
        "train": ("old", "new"),
        "validation": ("new, red",),
        "test": ("",),
        "unlabelled": ("old", "new"),
    }
    assert all(samples.classes == ("cat", "dog") for samples in parts.values())
    assert [row.line for row in read_table(path).rows] == [2, 3, 5, 6, 7, 8]


def test_tabs_a_mark_in_front_and_the_order_of_columns(tmp_path):
    text = "\ufefflabel\tpath\r\ncat, tom\tx y.png\r\ndog\tb.png\r\n"
    rows = read_table(write(tmp_path, text, "images.TSV")).rows
    assert [(row.written, row.label) for row in rows] == [("x y.png", "cat, tom"), ("b.png", "dog")]


def test_an_absolute_path_stays_one(tmp_path):
    rows = read_table(write(tmp_path, f"path,label\n{tmp_path}/elsewhere.png,a\n")).rows
    assert rows[0].path == tmp_path / "elsewhere.png"


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ({"10", "9", "1"}, ("1", "9", "10")),
        ({"10", "9", "b"}, ("10", "9", "b")),
        ({"2", "9" * 5000}, ("2", "9" * 5000)),
        (set(), ()),
    ],
)
def test_numbers_are_in_the_order_of_numbers(labels, order):
    assert order_classes(labels) == order


def test_without_splits_each_class_is_cut_80_10_10(tmp_path):
    path = write(tmp_path, "path,label,sex\n" + rows_of(["a"] * 20 + ["b"] * 40 + [""] * 3, ",f"))
    parts = scan_table(path, rng())
    counts = {n: list(np.bincount(s.labels + 1, minlength=3)) for n, s in parts.items()}
    assert counts == {
        "train": [0, 16, 32], "test": [0, 2, 4], "validation": [0, 2, 4], "unlabelled": [3, 0, 0],
    }  # fmt: skip
    assert len({path for samples in parts.values() for path in samples.paths}) == 63
    assert all(samples.columns["sex"] == ("f",) * len(samples) for samples in parts.values())
    again, other = scan(path, rng()), scan(path, np.random.default_rng(1))
    assert again["test"].paths == parts["test"].paths != other["test"].paths


def test_a_missing_validation_part_is_cut_off_train(tmp_path):
    rows = rows_of(["a"] * 30 + ["b"] * 30, ",train") + "x.png,a,test\n"
    parts = scan_table(write(tmp_path, "path,label,split\n" + rows), rng())
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 54, "validation": 6, "test": 1,
    }  # fmt: skip


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
LABELS = st.sampled_from(["", "-1", "cat", "dog", "a,b", 'say "x"', "two\nlines"])


@given(st.dictionaries(NAMES, st.tuples(LABELS, NAMES), min_size=1, max_size=12))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    rows = {f"x{i}{name.strip()}": said for i, (name, said) in enumerate(rows.items())}
    path = tmp_path_factory.mktemp("t") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "who"])
        writer.writerows([name, *said] for name, said in rows.items())
    table = read_table(path)
    assert [row.written for row in table.rows] == [name.strip() for name in rows]
    labels = [None if label in ("", "-1") else label for label, _ in rows.values()]
    assert [row.label for row in table.rows] == labels
    assert table.columns == {"who": tuple(who for _, who in rows.values())}


def test_the_line_is_where_a_row_begins(tmp_path):
    path = write(tmp_path, 'path,label,note\na.png,a,"two\nlines"\nb.png,b,one\nc.png\n')
    with pytest.raises(UserError, match="line 5: 1 fields"):
        read_table(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("t") / "a.csv"
    for content in (data, b"path,label\n" + data):
        path.write_bytes(content)
        try:
            assert read_table(path).rows
        except UserError as error:
            assert str(path) in str(error) and ", line " in str(error)


HEAD = "path,label,split\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "line 1: no column 'path' among none; the first line must name the columns, as 'path,",
        ),
        ("a.png,cat\n", "line 1: no column 'path' among 'a.png', 'cat'; the first line must name"),
        ("path;label\na.png;cat\n", "line 1: no column 'path' among 'path;label'"),
        ("path,class\na.png,cat\n", "line 1: no column 'label' among 'path', 'class'"),
        ("path,label,x,x\na.png,cat,1,2\n", "line 1: two columns called 'x'; give each a name"),
        ("path,label,\na.png,cat,1\n", "line 1: a column without a name"),
        ("path,label\n", "line 2: no rows; each must name an image and its class"),
        ("path,label\na.png,cat\nb.png\n", "line 3: 1 fields, but the header has 2"),
        ("path,label\na.png,cat,x\n", "line 2: 3 fields, but the header has 2"),
        ("path,label\n ,cat\n", "line 2: no path; name an image file in it"),
        ("path,label\na.png,cat\n\n./a.png,dog\n", "line 4: './a.png' is in line 2 already"),
        ("path,label\na.png,cat\nb/../a.png,dog\n", "line 3: 'b/../a.png' is in line 2 already"),
        (HEAD + "a.png,cat,holdout\n", "line 2: unknown split 'holdout'; use train, val or test"),
        (HEAD + "a.png,cat,train\nb.png,cat,\n", "line 3: no split, though other rows have one"),
        ('path,label\n"a.png,cat\nb.png,dog\n', "line 2: no proper row (unexpected end of data)"),
        ('path,label\n"a"b.png,cat\n', "line 2: no proper row ("),
        (b"path,label\na.png,cat\nb\xe9.png,dog\n", "line 3: not in UTF-8"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as refusal:
        read_table(path)
    assert str(refusal.value).startswith(f"{path}, {message}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,cat\nb.jpg,dog\n", ", line 3: no such file: "),
        ("path,label\na.png,\nb.png,-1\n", ": nothing to train with: 0 labels, all are empty or"),
        (HEAD + "a.png,cat,test\n", ": nothing to train with: 1 labels, but none in train"),
        (HEAD + "a.png,cat,train\n", ": one class only ('cat'); at least two are needed"),
        (
            HEAD + "a.png,a,train\nb.png,b,train\nc.png,c,test\n",
            ", line 4: class 'c' is not among those of train",
        ),
        ("path,label\n" + rows_of(["a"] * 3 + ["b"] * 2), ": class b: 2 image(s), too few to"),
        (HEAD + "a.png,a,train\nb.png,b,train\n", ": class a: 1 image(s), too few to split off v"),
    ],
)
def test_tables_that_nothing_can_be_trained_with(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as refusal:
        scan_table(path, rng())
    assert str(refusal.value).startswith(f"{path}{message}")


def test_what_is_no_table(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv: cannot be read: No such file"):
        scan(tmp_path / "nowhere.csv", rng())
    with pytest.raises(
        UserError,
        match=r"images\.txt: neither a folder nor a table whose name ends in \.csv or \.tsv",
    ):
        scan(write(tmp_path, "path,label\n", "images.txt"), rng())
