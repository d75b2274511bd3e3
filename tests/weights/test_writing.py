"""What is written in any format is read back the same, to the bit, with all that belongs to it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import message_of, our_layout, torchvision_arrays, weight_file

from resnet_np.errors import UserError
from resnet_np.weights import KERAS_CAFFE, Contract, WeightFile
from resnet_np.weights.reading import read
from resnet_np.weights.writing import write

CONTRACT = Contract(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), resize=232, interpolation="bicubic")


def tiny_file(variant: str | None = "v1", seed: int = 0, bias: bool = False) -> WeightFile:
    arrays = {n: our_layout(a) for n, a in torchvision_arrays(bias=bias, seed=seed).items()}
    return weight_file(
        arrays, path="tiny", variant=variant, contract=CONTRACT, classes=("cat", "däck", "owl")
    )


def for_transformers(variant: str | None = "v1") -> WeightFile:
    """With a contract that its library can express in full."""
    return replace(tiny_file(variant), contract=replace(CONTRACT, corner="down"))


def check_same(file: WeightFile, expected: WeightFile) -> None:
    assert set(file.arrays) == set(expected.arrays)
    for name, array in expected.arrays.items():
        assert file.arrays[name].dtype == array.dtype, name
        assert file.arrays[name].shape == array.shape, name
        assert file.arrays[name].tobytes() == array.tobytes(), name
    for fact in ("variant", "bn_eps", "contract", "classes", "depth", "conv_bias"):
        assert getattr(file, fact) == getattr(expected, fact), fact


ENDINGS = (".npz", ".safetensors", ".pth", ".pt")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("variant", ["v1", "v1.5", None])
def test_round_trip(tmp_path: Path, ending: str, variant: str | None) -> None:
    file = tiny_file(variant)
    assert write(tmp_path / f"a{ending}", file) == []
    check_same(read(tmp_path / f"a{ending}"), file)
    assert os.listdir(tmp_path) == [f"a{ending}"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_double_precision_is_kept(tmp_path: Path, ending: str) -> None:
    file = tiny_file()
    file = replace(file, arrays={n: a.astype(np.float64) for n, a in file.arrays.items()})
    write(tmp_path / f"a{ending}", file)
    check_same(read(tmp_path / f"a{ending}"), file)


@pytest.mark.parametrize("ending", ENDINGS)
def test_same_content_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / f"x{ending}", tiny_file())
    first, second = ((tmp_path / name / f"x{ending}").read_bytes() for name in ("a", "b"))
    assert first == second


positive = st.floats(0.1, 10)
contracts = st.builds(
    Contract,
    scale=st.sampled_from([1.0, 1 / 255]) | positive,
    mean=st.tuples(*[st.floats(-300, 300)] * 3),
    std=st.tuples(positive, positive, positive),
    resize=st.integers(224, 500),
    crop=st.integers(1, 224),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
    antialias=st.booleans(),
    fit=st.sampled_from(["crop", "stretch"]),
    corner=st.sampled_from(["nearest", "down"]),
)


@settings(max_examples=20)
@given(
    contract=contracts,
    variant=st.sampled_from(["v1", "v1.5"]),
    eps=st.floats(1e-8, 1e-2),
    bias=st.booleans(),
    names=st.lists(st.text(), min_size=3, max_size=3),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_network_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    contract: Contract,
    variant: str,
    eps: float,
    bias: bool,
    names: list[str],
    seed: int,
    dtype: type,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    file = tiny_file(variant, seed, bias)
    arrays = {name: array.astype(dtype) for name, array in file.arrays.items()}
    arrays["fc.weight"][0] = [0.0, -0.0, 5e-324 if dtype is np.float64 else 1e-45]  # to the bit
    file = replace(file, arrays=arrays, bn_eps=eps, contract=contract, classes=tuple(names))
    for ending in ENDINGS:
        assert write(folder / f"a{ending}", file) == []
        check_same(read(folder / f"a{ending}"), file)
    # Without what transformers cannot have, its folder keeps everything, too.
    file = tiny_file(variant, seed)
    arrays = {name: array.astype(dtype) for name, array in file.arrays.items()}
    file = replace(file, arrays=arrays, contract=contract, classes=tuple(names))
    write(folder / "a", file)
    check_same(read(folder / "a"), file)


def test_endings_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.xyz: no known format ends so; known are \.npz"):
        write(tmp_path / "a.xyz", tiny_file())
    assert os.listdir(tmp_path) == []


# --- a folder for transformers -------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["v1", "v1.5"])
@pytest.mark.parametrize("name", ["a", "a.d/"])
def test_folder_round_trip(tmp_path: Path, variant: str, name: str) -> None:
    file = for_transformers(variant)
    assert write(f"{tmp_path}/{name}", file) == []
    check_same(read(tmp_path / name), file)
    assert os.listdir(tmp_path) == [name.rstrip("/")]
    assert len(os.listdir(tmp_path / name)) == 3


def test_folder_with_a_contract_that_transformers_cannot_express(tmp_path: Path) -> None:
    file = replace(tiny_file(), contract=replace(CONTRACT, antialias=False))
    notes = write(tmp_path / "a", file)
    assert len(notes) == 2 and "one pixel" in notes[0] and "antialiasing" in notes[1]
    check_same(read(tmp_path / "a"), file)  # for us it is written beside
    images = tmp_path / "a" / "preprocessor_config.json"
    images.write_text(images.read_text().replace("232", "240"))  # somebody knows better
    assert read(tmp_path / "a").contract == replace(CONTRACT, resize=240, corner="down")


def test_folder_for_images_in_bgr(tmp_path: Path) -> None:
    file = replace(tiny_file(), contract=KERAS_CAFFE)
    notes = write(tmp_path / "a", file)
    assert "in the order red, green, blue" in notes[0]
    found = read(tmp_path / "a")
    assert found.contract == replace(KERAS_CAFFE, color="RGB", mean=KERAS_CAFFE.mean[::-1])
    kernel = file.arrays["conv1.weight"]
    np.testing.assert_array_equal(found.arrays["conv1.weight"][:, :, 2], kernel[:, :, 0])
    image = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    before = KERAS_CAFFE.normalise(image) @ kernel[3, 3]
    after = found.contract.normalise(image) @ found.arrays["conv1.weight"][3, 3]
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_folder_without_biases_and_with_the_epsilon_of_transformers(tmp_path: Path) -> None:
    file = replace(tiny_file(bias=True), bn_eps=1e-3)
    notes = write(tmp_path / "a", file)
    assert len(notes) == 3  # epsilon, biases, corner
    found = read(tmp_path / "a")
    assert (found.bn_eps, found.conv_bias) == (1e-5, False)


def test_folder_without_a_head(tmp_path: Path) -> None:
    file = for_transformers()
    arrays = {name: a for name, a in file.arrays.items() if not name.startswith("fc.")}
    file = replace(file, arrays=arrays, classes=None)
    assert write(tmp_path / "a", file) == []
    check_same(read(tmp_path / "a"), file)


def test_same_folder_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, for_transformers())
    for part in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()


HIDDEN = {"fc.weight": (), "fc.bias": (), "fc.0.weight": (24, 5), "fc.3.weight": (5, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (HIDDEN, "its head is one"),
        ({"layer1.0.conv1.weight": (1, 1, 9, 3)}, "instead of"),
    ],
)
def test_folder_refused(tmp_path: Path, change: dict, message: str) -> None:
    file = tiny_file()
    arrays = dict(file.arrays)
    for name, shape in change.items():
        arrays.pop(name, None)
        if shape:
            arrays[name] = np.ones(shape, np.float32)
    with pytest.raises(UserError, match=message):
        write(tmp_path / "a", replace(file, arrays=arrays))
    assert os.listdir(tmp_path) == []


def test_folder_without_a_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"v1 or the v1\.5 network"):
        write(tmp_path / "a", tiny_file(None))


def test_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", for_transformers("v1"))
    write(tmp_path / "a", for_transformers("v1.5"))
    assert read(tmp_path / "a").variant == "v1.5"
    (tmp_path / "a" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"a: a folder that holds thesis\.tex"):
        write(tmp_path / "a", for_transformers("v1"))
    assert len(os.listdir(tmp_path / "a")) == 4
    assert os.listdir(tmp_path) == ["a"]


def test_folder_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", for_transformers("v1"))

    def interrupt(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / name, for_transformers("v1.5"))
    assert os.listdir(tmp_path) == ["a"]
    assert read(tmp_path / "a").variant == "v1"


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b: cannot be written: there is no folder"):
        write(tmp_path / "a" / "b", for_transformers())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written: Not a directory"):
        write(tmp_path / "file", for_transformers())


def checkpoint_file(pooling: str = "avg") -> WeightFile:
    """What `read` makes of a checkpoint, of a network with dropout in front of its head."""
    file = tiny_file()
    arrays = {name.replace("fc.", "fc.1."): array for name, array in file.arrays.items()}
    record = {"image_size": 64, "model": {"pooling": pooling}}
    return replace(file, arrays=arrays, record=record)


@pytest.mark.parametrize("ending", [".npz", ""])
def test_a_checkpoint_becomes_weights_for_its_image_size(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"a{ending}", checkpoint_file())
    check_same(read(tmp_path / f"a{ending}"), replace(tiny_file(), contract=CONTRACT.with_size(64)))


def test_a_pooling_that_the_format_cannot_say(tmp_path: Path) -> None:
    assert "pooling is max" in write(tmp_path / "a.pth", checkpoint_file("max"))[0]
    with pytest.raises(UserError, match="the mean of the image"):
        write(tmp_path / "a", checkpoint_file("max"))


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth", ""])
def test_class_names_of_bytes_that_are_no_text(tmp_path: Path, ending: str) -> None:
    """A folder may be called by any bytes, and classes are called as their folders."""
    file = replace(
        for_transformers(), classes=("cat", b"d\xff".decode(errors="surrogateescape"), "")
    )
    write(tmp_path / f"a{ending}", file)
    check_same(read(tmp_path / f"a{ending}"), file)


@pytest.mark.parametrize("ending", [".npz", ""])
def test_class_names_that_would_not_be_read_again(tmp_path: Path, ending: str) -> None:
    file = replace(tiny_file(), classes=("cat", "dog" * 1_000_000, "owl"))
    with pytest.raises(UserError, match="its class names take too much room"):
        write(tmp_path / f"a{ending}", file)
    assert os.listdir(tmp_path) == []


def test_damaged_facts(tmp_path: Path) -> None:
    arrays = torchvision_arrays() | {"resnet_np": np.frombuffer(b"[" * 100_000, np.uint8)}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "its text 'resnet_np' is damaged" in message_of(tmp_path / "a.npz")
