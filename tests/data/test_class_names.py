"""Files of class names: ImageNet's two, and plain ones."""

import json

import pytest

from resnet_np.data.class_names import read_class_names
from resnet_np.errors import UserError

SYNSETS = "n02012849 crane\nn03126707 : crane, tower crane\nn01440764\ttench, Tinca tinca\n"
KERAS = '{"0": ["n02012849", "crane"], "1": ["n03126707", "crane"], "2": ["n01440764", "a_b"]}'


def test_by_hand(tmp_path):
    (tmp_path / "synsets.txt").write_text(SYNSETS)
    names = read_class_names(tmp_path / "synsets.txt")
    assert names.readable(["n01440764", "n02012849"]) == ("tench", "crane (n02012849)")
    both = ("crane (n02012849)", "crane (n03126707)", "tench")
    assert names.readable(["n02012849", "n03126707", "n01440764"]) == both
    assert names.readable(["2", "0"]) == ("tench", "crane (0)")
    (tmp_path / "index.json").write_text(KERAS)
    assert read_class_names(tmp_path / "index.json").readable(["2", "n01440764"]) == (
        "a b (2)", "a b (n01440764)",
    )  # fmt: skip
    (tmp_path / "plain.json").write_text('{"1": "dog", "0": "red_cat"}')
    assert read_class_names(tmp_path / "plain.json").readable(["0", "1"]) == ("red_cat", "dog")
    (tmp_path / "plain.txt").write_text("\ufeffcat\r\nbig dog, old\r\n")
    assert read_class_names(tmp_path / "plain.txt").readable(["1"]) == ("big dog, old",)


def test_imagenets_own_files(test_data):
    synsets = read_class_names(test_data / "images" / "LOC_synset_mapping.txt")
    keras = read_class_names(test_data / "images" / "imagenet_class_index.json")
    assert synsets.by_key == keras.by_key  # the first of the names, in all thousand
    assert len(synsets.by_key) == 2000
    assert synsets.by_key["n02109961"] == synsets.by_key["248"] == "Eskimo dog"
    classes = [path.name[:9] for path in (test_data / "images" / "imagenet-100").iterdir()]
    assert len(set(synsets.readable(classes))) == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", ": no class names in it; expected one in each line"),
        (b"\xff\xfe", ": no list of class names: it is not in UTF-8"),
        (b"n01440764 tench\ncat\n", ", line 2: expected 'n01440764 tench' as in line 1, not 'cat'"),
        (b"cat\nn01440764 tench\n", ", line 2: expected a name, not 'n01440764 tench'"),
        (b"cat\n\ndog\n", ", line 2: expected a name, not ''"),
        (b"{", ": no list of class names: not JSON ("),
        (b'{"0": ' + b"[" * 100_000, ": no list of class names: not JSON ("),
        (b'{"1": "dog"}', ": no name under '0'; 1 classes are numbered from 0 to 0, each as"),
        (b'{"0": ["tench", "n01440764"]}', ": no name under '0'"),
        (b'{"0": "cat", "1": 5}', ": no name under '1'"),
        (b'{"0": " "}', ": no name under '0'"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    path = tmp_path / "names"
    path.write_bytes(text)
    with pytest.raises(UserError) as refusal:
        read_class_names(path)
    assert str(refusal.value).startswith(f"{path}{message}")


def test_unknown_classes_and_files_are_named(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"0": "cat"}))
    with pytest.raises(UserError, match=r"names\.json: has no name for 7, dog; add it"):
        read_class_names(path).readable(["0", "7", "dog"])
    with pytest.raises(UserError, match="nowhere: cannot be read: No such file"):
        read_class_names(tmp_path / "nowhere")
