"""Batches that cannot be images are refused, and images never are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistakes import CASES, CONTRACTS, MISTAKES, numbers, verdict
from PIL import Image

from resnet_np.data.images import load_image
from resnet_np.errors import UserError
from resnet_np.weights import KERAS_CAFFE, PLAIN, TORCHVISION

# ---- images are never refused


sizes = st.sampled_from([32, 33, 64, 224])
pictures = st.one_of(
    st.tuples(st.just("constant"), st.lists(st.integers(0, 255), min_size=1, max_size=3)),
    st.tuples(st.just("noise"), st.tuples(st.integers(0, 255), st.integers(0, 255))),
    st.tuples(st.just("two"), st.tuples(st.integers(0, 255), st.integers(0, 255))),
    st.tuples(st.just("ramp"), st.tuples(st.integers(0, 255), st.integers(0, 255))),
)


def draw(kind: str, levels: tuple[int, ...], size: int, grey: bool, seed: int) -> np.ndarray:
    """uint8 [2, size, size, 3]: constant, noise or a ramp between two levels, grey or coloured."""
    rng = np.random.default_rng(seed)
    shape = (2, size, size, 1 if grey else 3)
    low, high = min(levels), max(levels)
    if kind == "constant":
        pixels = np.broadcast_to(np.resize(np.array(levels), 1 if grey else 3), shape)
    elif kind == "noise":
        pixels = rng.integers(low, high + 1, shape)
    elif kind == "two":
        pixels = rng.choice([low, high], shape)
    else:
        pixels = np.broadcast_to(np.linspace(low, high, size)[:, None], shape)
    return np.broadcast_to(pixels, (2, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", CONTRACTS)
@given(pictures, sizes, st.booleans(), st.integers(0, 99))
def test_what_normalise_made_passes_in_silence(
    name: str, picture: tuple, size: int, grey: bool, seed: int
) -> None:
    contract = CONTRACTS[name]
    contract.check(contract.normalise(draw(*picture, size, grey, seed)))


@pytest.mark.parametrize("name", CONTRACTS)
@given(
    pictures,
    sizes,
    sizes,
    st.booleans(),
    st.sampled_from(["BILINEAR", "BICUBIC", "LANCZOS"]),
    st.integers(0, 99),
)
def test_images_resized_as_floating_point_are_not_refused(
    name: str, picture: tuple, size: int, target: int, grey: bool, filter_: str, seed: int
) -> None:
    x = numbers(CONTRACTS[name], resized(draw(*picture, size, grey, seed), target, filter_))
    assert verdict(CONTRACTS[name], x) != "refused"


def resized(pixels: np.ndarray, target: int, filter_: str) -> np.ndarray:
    """Without rounding or clipping: uint8 [N, H, W, 3] -> float32 [N, S, S, 3]."""
    channels = [
        Image.fromarray(pixels[n, ..., c].astype(np.float32)).resize(
            (target, target), Image.Resampling[filter_]
        )
        for n in range(len(pixels))
        for c in range(3)
    ]
    planes = np.stack([np.asarray(channel) for channel in channels])
    # [N*3, S, S] -> [N, S, S, 3]
    return planes.reshape(len(pixels), 3, target, target).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("level", [0, 1, 104, 117, 124, 128, 254, 255])
def test_plain_pictures_pass_in_silence(name: str, level: int) -> None:
    contract = CONTRACTS[name]
    pixels = np.full((2, 64, 64, 3), level, np.uint8)
    contract.check(contract.normalise(pixels))
    contract.check(numbers(contract, resized(pixels, 224, "BICUBIC")))


# ---- mistakes


# (contract, what it was given): the verdict on photographs; where nothing stands, refused.
VERDICTS = {
    **{(name, name): "silent" for name in CONTRACTS},
    ("torchvision", "0..1"): "warned",
    ("torchvision", "-1..1"): "warned",
    ("-1..1", "0..1"): "warned",
}


@pytest.fixture(scope="module")
def photographs(test_data: Path) -> list[np.ndarray]:
    """20 of them, each a batch of its own: uint8 [1, 224, 224, 3]."""
    images = test_data / "images"
    paths = sorted((images / "imagenet-100").iterdir())[3::10][:10]
    paths += sorted((images / "trashnet" / "test").rglob("*.jpg"))[::18]
    paths += sorted((images / "sign-language-digits").rglob("*.JPG"))[::500]
    assert len(paths) == 20
    return [load_image(path, TORCHVISION, 224)[None] for path in paths]


@pytest.mark.parametrize(("name", "mistake"), CASES)
def test_mistakes_on_photographs(photographs: list[np.ndarray], name: str, mistake: str) -> None:
    expected = VERDICTS.get((name, mistake), "refused")
    found = [verdict(CONTRACTS[name], MISTAKES[mistake](pixels)) for pixels in photographs]
    assert found == [expected] * 20


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("torchvision", "bytes"),
        ("torchvision", "caffe"),
        ("torchvision", "torchvision, twice"),
        ("caffe", "bytes"),
        ("caffe", "torchvision"),
        ("caffe", "0..1"),
        ("caffe", "-1..1"),
        ("0..1", "bytes"),
        ("0..1", "torchvision"),
        ("0..1", "caffe"),
        ("-1..1", "bytes"),
        ("-1..1", "caffe"),
    ],
)
def test_mistakes_on_photographs_resized_as_floating_point(
    photographs: list[np.ndarray], name: str, mistake: str
) -> None:
    for pixels in photographs:
        x = MISTAKES[mistake](pixels)
        low = x.min()
        soft = resized(x - low, 160, "BICUBIC") + low
        assert verdict(CONTRACTS[name], soft) == "refused"


@pytest.mark.parametrize("name", ["torchvision", "caffe"])
def test_red_and_blue_exchanged(photographs: list[np.ndarray], name: str) -> None:
    turned = CONTRACTS[name].normalise(photographs[0])[..., ::-1]
    with pytest.raises(UserError, match="look like normalised, with red and blue exchanged; put"):
        CONTRACTS[name].check(turned)


@pytest.mark.parametrize(
    ("name", "mistake", "message"),
    [
        ("torchvision", "bytes", "cannot be images .* they look like bytes 0..255 as they were"),
        ("torchvision", "caffe", "they look like bytes with a mean colour subtracted"),
        ("torchvision", "torchvision, twice", "look like normalised twice; .*`normalise` once"),
        ("torchvision", "0..1", "are hardly images .* they look like numbers in 0..1; put RGB"),
        ("torchvision", "-1..1", "are hardly images .* they look like numbers in -1..1"),
        ("caffe", "0..1", "from -123.7 to 151.1: they look like numbers in 0..1"),
        ("caffe", "-1..1", "they look like numbers in -1..1"),
        ("caffe", "torchvision", "they look like normalised with ImageNet's mean"),
        ("caffe", "bytes", "they look like bytes 0..255"),
        ("caffe", "caffe, twice", "they look like normalised twice"),
        ("0..1", "torchvision", "they look like normalised with ImageNet's mean"),
        ("0..1", "0..1, scaled twice", "they look like normalised twice"),
    ],
)
def test_the_message_says_which_mistake(name: str, mistake: str, message: str) -> None:
    pixels = draw("noise", (0, 255), 64, False, 0)
    with pytest.raises((UserError, UserWarning), match=message):
        CONTRACTS[name].check(MISTAKES[mistake](pixels))


def test_one_wrong_image_among_many_is_found() -> None:
    pixels = draw("noise", (0, 255), 32, False, 0)
    x = np.concatenate([TORCHVISION.normalise(pixels)] * 32)
    x[17] = pixels[0]
    with pytest.raises(UserError, match="cannot be images"):
        TORCHVISION.check(x)


def test_zeros_are_unlikely_where_they_are_not_black() -> None:
    zeros = np.zeros((1, 32, 32, 3), np.float32)
    PLAIN.check(zeros)
    for contract in (TORCHVISION, KERAS_CAFFE):
        with pytest.warns(UserWarning, match="from 0 to 0 are hardly images"):
            contract.check(zeros)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 32, 32, 3), np.uint8), r"whole numbers \(uint8\)"),
        (np.zeros((1, 32, 32, 3), np.int64), r"whole numbers \(int64\)"),
        (np.zeros((1, 3, 32, 32), np.float32), r"is \[N, H, W, 3\], not \[1, 3, 32, 32\]"),
        (np.zeros((32, 32, 3), np.float32), r"is \[N, H, W, 3\], not \[32, 32, 3\]"),
        (np.full((1, 32, 32, 3), np.nan, np.float32), "not finite"),
        (np.full((1, 32, 32, 3), np.inf, np.float32), "not finite"),
    ],
)
def test_what_is_no_batch(x: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TORCHVISION.check(x)


def test_no_images_at_all() -> None:
    TORCHVISION.check(np.zeros((0, 32, 32, 3), np.float32))


def test_the_batch_stays_as_it_was() -> None:
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)) * 5
    before = x.copy()
    verdict(TORCHVISION, x)
    np.testing.assert_array_equal(x, before)


class OnDevice:
    """An array that has methods and operators, but which NumPy's functions cannot take."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.ndim, self.shape = array.ndim, array.shape
        self.dtype, self.size = array.dtype, array.size

    def min(self, axis: int | tuple[int, ...]) -> "OnDevice":
        return OnDevice(self.array.min(axis=axis))

    def max(self, axis: int | tuple[int, ...]) -> "OnDevice":
        return OnDevice(self.array.max(axis=axis))

    def mean(self) -> "OnDevice":
        return OnDevice(np.asarray(self.array.mean()))

    def tolist(self) -> list:
        return self.array.tolist()

    def __getitem__(self, key: object) -> "OnDevice":
        return OnDevice(self.array[key])  # type: ignore[index]

    def __lt__(self, number: float) -> "OnDevice":
        return OnDevice(self.array < number)

    def __gt__(self, number: float) -> "OnDevice":
        return OnDevice(self.array > number)

    def __or__(self, other: "OnDevice") -> "OnDevice":
        return OnDevice(self.array | other.array)

    def __float__(self) -> float:
        return float(self.array)

    def __array__(self, *_: object) -> np.ndarray:
        raise TypeError("implicit copies from the device are not allowed")


@pytest.mark.parametrize("name", CONTRACTS)
def test_arrays_of_another_library(name: str) -> None:
    pixels = draw("noise", (0, 255), 32, False, 0)
    for prepare in MISTAKES.values():
        x = prepare(pixels)
        assert verdict(CONTRACTS[name], OnDevice(x)) == verdict(CONTRACTS[name], x)
