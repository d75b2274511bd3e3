"""Can this batch be what the contract asks for?

Arithmetic takes any numbers, and a network fed with the wrong ones answers all the same. So the
numbers are turned back into the bytes that they stand for under the contract,

    b = (x * std + mean) / scale

and judged, one channel at a time:

    impossible  many lie far outside of 0..255; or all of them lie within a few steps of the mean,
                where bytes are spread over hundreds: refused
    certain     they are whole numbers in 0..255 after another preparation, such as the contract's
                own applied twice, and not after this one: refused where bytes or a second
                normalisation are due to it, or the range is wrong
    unlikely    possible, but in the range of another preparation: a warning
    right       all else; and whole numbers in 0..255, whatever the images show

Images that were resized as floating-point numbers overshoot at edges, the more the higher their
contrast. On noise of black and white, Lanczos lays 5 % of the numbers more than a quarter of the
contrast outside, and cannot lay any outside by more than 0.7 of it. This much is allowed.
"""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_np.errors import UserError

if TYPE_CHECKING:
    from resnet_np.weights.contract import Contract

OVERSHOOT, OVERSHOOT_SHARE = 1 / 4, 0.10  # of the contrast, and the share of numbers there
FAR, FAR_SHARE = 180, 0.001  # in steps of 8 bits
BRIGHT, BRIGHT_SHARE = 64, 0.002  # the same where no number is below the mean
ROUNDING = 0.05  # of bytes that went through float32
EDGE, EDGE_SHARE = 16, 0.05  # a warning
POINTS = 16  # rows and columns of an image that are looked at closely
LEVELS = 24  # different bytes, for a coincidence to be none
WIDE = 50  # a contract whose numbers spread further than this does not scale bytes
DARK = 3  # the brightest byte of images that are suspiciously dark
SLACK = 0.1  # of a range, for what overshoots it
FILLED = 0.05  # of a range, from the least to the largest number
SMALL = 5  # numbers for a contract that does not scale; any grey is further from the mean colour

IMAGENET_MEAN, IMAGENET_STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
CAFFE_MEAN = np.array((103.939, 116.779, 123.68))

UNIT, SIGNED = "numbers in 0..1", "numbers in -1..1"
IMAGENET = "normalised with ImageNet's mean and standard deviation"
BYTES = "bytes 0..255 as they were decoded"
CAFFE = "bytes with a mean colour subtracted"
TWICE = "normalised twice"
TURNED = "normalised, with red and blue exchanged"
RANGES = {  # the narrowest first
    UNIT: (0.0, 1.0),
    SIGNED: (-1.0, 1.0),
    IMAGENET: (-2.12, 2.65),
    BYTES: (0.0, 255.0),
    CAFFE: (-123.7, 151.1),
}


def check_batch(contract: "Contract", x: Any) -> None:
    """Look at a normalised batch: float [N, H, W, 3], of NumPy or CuPy.

    Raises UserError for what cannot be images under the contract, warns of what hardly can. Takes
    the least and the largest number of each channel, and more only where these are suspicious.
    """
    if x.ndim != 4 or x.shape[3] != 3:
        raise UserError(f"a batch of images is [N, H, W, 3], not {list(x.shape)}")
    if x.dtype.kind in "iub":
        raise UserError(
            f"the batch has whole numbers ({x.dtype}) where normalised ones are due: put images "
            "through the contract's `normalise` first"
        )
    if not x.size:
        return
    # Along the rows first: NumPy is slow where the innermost axis has only three numbers.
    lows = np.array(x.min(axis=(0, 1)).min(axis=0).tolist(), np.float64)
    highs = np.array(x.max(axis=(0, 1)).max(axis=0).tolist(), np.float64)
    if not np.isfinite([lows, highs]).all():
        raise UserError("the batch has numbers that are not finite: look where they come from")
    ends = _Ends(contract, lows, highs)
    if ends.outside or ends.narrow or ends.small or ends.bright or ends.dark:
        _look_closely(ends, x)


class _Ends:
    """The least and the largest number of each channel of a batch [3], and what is odd about them.

    outside: some byte is not in 0..255.
    narrow: the preparation in whose range all lie, if the contract's range is much wider; or "".
    small: all are close to the mean, where bytes are not scaled and differ by far more.
    bright: next to none is darker than the mean.
    dark: all are close to black.
    """

    def __init__(self, contract: "Contract", lows: np.ndarray, highs: np.ndarray) -> None:
        self.contract, self.lows, self.highs = contract, lows, highs
        self.low, self.high = float(lows.min()), float(highs.max())
        self.darkest, self.brightest = _bytes(contract, lows), _bytes(contract, highs)
        self.outside = bool(self.darkest.min() < -0.5 or self.brightest.max() > 255.5)
        self.bright = min(contract.mean) > 0 and self.low >= -SLACK * max(contract.mean)
        self.dark = bool(self.brightest.max() < DARK)
        self.least = float(_numbers(contract, 0).min())
        self.most = float(_numbers(contract, 255).max())
        look = self.fitting()[:1]
        least, most = RANGES[look[0]] if look else (-np.inf, np.inf)
        width = self.most - self.least
        self.narrow = look[0] if width > 1.5 * (most - least) else ""
        self.small = width > WIDE and max(-self.low, self.high) < SMALL

    def fitting(self) -> list[str]:
        """The preparations in whose range all numbers lie, the narrowest first."""
        return [
            look
            for look, (least, most) in RANGES.items()
            if least - SLACK * (most - least) <= self.low
            and self.high <= most + SLACK * (most - least)
            and self.high - self.low >= FILLED * (most - least)
        ]

    def find_look(self) -> str:
        """The preparation that the ends speak for, or ""."""
        looks = self.fitting()
        if self.dark or (looks in ([], [CAFFE]) and self._fits_twice()):
            return TWICE
        return looks[0] if looks else ""

    def _fits_twice(self) -> bool:
        low = _bytes(self.contract, self.darkest * self.contract.scale).min()
        high = _bytes(self.contract, self.brightest * self.contract.scale).max()
        return bool(low >= -SLACK * 255 and high <= (1 + SLACK) * 255)

    def describe(self, verb: str, look: str) -> str:
        seems = f"they look like {look}" if look else "they were prepared some other way"
        once = " once" if look == TWICE else ""
        return (
            f"numbers from {self.low:.4g} to {self.high:.4g} {verb} images as these weights expect "
            f"them, from {self.least:.4g} to {self.most:.4g}: {seems}; put RGB bytes through the "
            f"contract's `normalise`{once} and nothing else"
        )


def _look_closely(ends: _Ends, x: Any) -> None:
    """Raise, warn or be content, where the ends are odd."""
    contract = ends.contract
    sample = _sample(x)
    if not ends.outside and _are_bytes(_bytes(contract, sample)):
        return
    constant = bool((ends.lows == ends.highs).all())
    sure = _certain(contract, sample)
    look = sure or ends.find_look()
    if (
        (ends.outside and _far_outside(ends, x))
        or (ends.small and not constant)
        or sure in (BYTES, TWICE)
        or (sure and ends.outside)
    ):
        raise UserError(ends.describe("cannot be", look))
    odd = sure or ends.narrow or ends.bright or ends.dark
    edges = ends.outside and _share(contract, x, np.full(3, EDGE)) > EDGE_SHARE
    zeros = not (ends.lows.any() or ends.highs.any())
    if zeros or (not constant and (odd or edges)):
        # At who called `Contract.check`.
        warnings.warn(ends.describe("are hardly", look), stacklevel=4)


def _bytes(contract: "Contract", x: np.ndarray) -> np.ndarray:
    """The bytes that normalised numbers [..., 3] stand for, in the contract's colour order."""
    return (x * np.array(contract.std) + contract.mean) / contract.scale


def _numbers(contract: "Contract", b: float | np.ndarray) -> np.ndarray:
    """What a byte, or one for each channel, becomes: [3]."""
    return (b * contract.scale - np.array(contract.mean)) / contract.std


def _sample(x: Any) -> np.ndarray:
    """Points of every image, on a grid: float64 [n, 3], in the host's memory."""
    rows, columns = (max(1, size // POINTS) for size in x.shape[1:3])
    return np.array(x[:, ::rows, ::columns].tolist(), np.float64).reshape(-1, 3)


def _are_bytes(b: np.ndarray) -> bool:
    whole = np.rint(b)
    return bool(np.abs(b - whole).max() < ROUNDING and whole.min() >= 0 and whole.max() <= 255)


def _far_outside(ends: _Ends, x: Any) -> bool:
    """Whether more numbers lie outside of 0..255 than edges can lay there."""
    contrast = ends.brightest.clip(0, 255) - ends.darkest.clip(0, 255)
    limits = [((OVERSHOOT * contrast).clip(2), OVERSHOOT_SHARE), (np.full(3, FAR), FAR_SHARE)]
    if ends.bright:
        limits.append((np.full(3, BRIGHT), BRIGHT_SHARE))
    return any(_share(ends.contract, x, steps) > share for steps, share in limits)


def _share(contract: "Contract", x: Any, steps: np.ndarray) -> float:
    """The share of numbers that lie more than `steps` [3] of 8 bits outside of 0..255."""
    least, most = _numbers(contract, -steps).tolist(), _numbers(contract, 255 + steps).tolist()
    outside = [(x[..., c] < least[c]) | (x[..., c] > most[c]) for c in range(3)]
    return sum(float(channel.mean()) for channel in outside) / 3


def _certain(contract: "Contract", x: np.ndarray) -> str | None:
    """The preparation under which the points [n, 3] are bytes, and too many for a coincidence."""
    for look, b in _candidates(contract, x):
        if _are_bytes(b) and len(np.unique(np.rint(b))) >= LEVELS:
            return look
    return None


def _candidates(contract: "Contract", x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield BYTES, x
    yield UNIT, x * 255
    yield SIGNED, (x + 1) * 127.5
    yield TURNED, _bytes(contract, x[:, ::-1])
    for turned in (x, x[:, ::-1]):
        yield IMAGENET, (turned * IMAGENET_STD + IMAGENET_MEAN) * 255
        yield CAFFE, turned + CAFFE_MEAN
    once = _bytes(contract, x)
    for turned in (once, once[:, ::-1]):
        yield TWICE, _bytes(contract, turned)
        yield TWICE, _bytes(contract, turned * contract.scale)
