"""What the first trainable stage gets to see, computed once where everything before it is frozen.

The features of an image at a frozen boundary are the same in every epoch. `CachedInputs` computes
them once; `ImageInputs` computes them again each time they are asked for. Both go through
`Trunk.features`, in which an image's features do not depend on who else is in the batch: training
with and without the cache gives the same parameters, bit for bit. Images that are changed at random
are others in every epoch; `CachedViews` keeps the features of the first few epochs, and uses them
in turns.
"""

import errno
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from resnet_np.autograd import Tensor, no_grad
from resnet_np.data.augmented import AugmentedImages
from resnet_np.data.loader import Images, load_ahead, split_batches
from resnet_np.data.transfer import fetch_behind, send_ahead
from resnet_np.device import activation_dtype
from resnet_np.errors import UserError
from resnet_np.kernels import Array, get_array_module
from resnet_np.models.resnet import ResNet
from resnet_np.weights.contract import Contract

MEMORY_BUDGET = 2 * 2**30  # bytes of features to keep in memory; more than that goes to a file
AT_ONCE = 32  # images that go through a trunk at a time


class Inputs(Protocol):
    """Inputs of the first trainable stage, by image. labels: int64 [N].

    Getting a batch has three steps, so that files can be read on other threads, and batches copied
    to a GPU, while the network computes: `load` reads, `send_ahead` copies, `prepare` computes. All
    three for each batch: `batches_of`.

    device: where the model is, "cpu" or "gpu".
    """

    labels: np.ndarray
    device: str

    def load(self, indices: np.ndarray) -> np.ndarray:
        """What lies in memory or in files for these images, as it lies there."""

    def prepare(self, loaded: Array) -> Array:
        """[n, ...] for `model(x, start=...)`, in the run's precision; `loaded` is on the device."""

    def at(self, epoch: int) -> "Inputs":
        """What there is to see in this epoch; the first one is 0."""

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """What the network should answer: labels [n], or shares of all classes [n, K]."""


class Waiting:
    """How long somebody has waited for items, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, items: Iterable[Array]) -> Iterator[Array]:
        """The items, each as soon as it is there."""
        iterator = iter(items)
        while True:
            asked = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.seconds += time.monotonic() - asked
            yield item


def batches_of(
    inputs: Inputs, batches: Iterable[np.ndarray], waiting: Waiting | None = None
) -> Iterator[Array]:
    """What enters the first trainable stage, for each batch of indices.

    waiting : is told how long files and copies kept the network waiting
    """
    there = send_ahead(load_ahead(inputs.load, batches), inputs.device)
    return map(inputs.prepare, there if waiting is None else waiting.watch(there))


class Trunk:
    """The frozen stages of a model, in front of stage `stop`, and the normalisation before them.

    With `stop == "stem"` nothing is frozen, and the features are the normalised pixels.
    """

    def __init__(
        self,
        model: ResNet,
        stop: str,
        contract: Contract,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.model, self.stop, self.contract, self.device = model, stop, contract, device
        self.dtype = activation_dtype(precision)

    def features(self, images: Array) -> Array:
        """uint8 [n, S, S, 3] on the device -> [n, ...], the same for an image in any company.

        On the CPU the kernels see to that. On a GPU the images go through AT_ONCE at a time, the
        last of them with black ones to make up the number: cuBLAS chooses how to sum by the shape
        of a product, so all are of one shape. (That it sums all rows of a product alike, wherever
        they stand, is what its kernels do; its manual promises no more than the same result for the
        same product.)
        """
        if self.device == "cpu" or self.stop == "stem":
            return self._run(images)
        chunks = [images[i : i + AT_ONCE] for i in range(0, len(images), AT_ONCE)]
        features = [self._run(_filled_up(chunk))[: len(chunk)] for chunk in chunks]
        return get_array_module(images).concatenate(features)

    def _run(self, images: Array) -> Array:
        x = self.contract.normalise(images).astype(self.dtype, copy=False)
        if self.stop == "stem":
            return x
        with no_grad():
            return self.model(Tensor(x), stop=self.stop, checked=True).data


class Pixels:
    """In place of a trunk, where there is none: the normalised pixels."""

    def __init__(self, contract: Contract, device: str = "cpu") -> None:
        self.contract, self.device = contract, device

    def features(self, images: Array) -> Array:
        """uint8 [n, S, S, 3] -> float32 [n, S, S, 3]."""
        return self.contract.normalise(images)


def _filled_up(images: Array) -> Array:
    """The images, and black ones behind them: AT_ONCE in all."""
    shape = (AT_ONCE, *images.shape[1:])
    chunk = get_array_module(images).zeros(shape, images.dtype)
    chunk[: len(images)] = images
    return chunk


class ImageInputs:
    """Features computed anew whenever they are asked for."""

    def __init__(self, images: Images, trunk: "Trunk | Pixels") -> None:
        self.images, self.trunk = images, trunk
        self.labels, self.device = images.labels, trunk.device

    def load(self, indices: np.ndarray) -> np.ndarray:
        return self.images.read(indices)

    def prepare(self, loaded: Array) -> Array:
        return self.trunk.features(loaded)

    def at(self, epoch: int) -> "ImageInputs":
        if isinstance(self.images, AugmentedImages):
            return ImageInputs(self.images.at(epoch), self.trunk)
        return self

    def targets(self, indices: np.ndarray) -> np.ndarray:
        if isinstance(self.images, AugmentedImages):
            return self.images.targets(indices)
        return self.labels[indices]


class CachedInputs:
    """Features that were computed before: [N, ...], in memory or in a file."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, device: str) -> None:
        self.features, self.labels, self.device = features, labels, device

    def load(self, indices: np.ndarray) -> np.ndarray:
        return self.features[indices]

    def prepare(self, loaded: Array) -> Array:
        return loaded

    def at(self, epoch: int) -> "CachedInputs":
        return self

    def targets(self, indices: np.ndarray) -> np.ndarray:
        return self.labels[indices]


class CachedViews(CachedInputs):
    """The features of several views of the images, one for each epoch in turns."""

    def __init__(self, views: Sequence[CachedInputs]) -> None:
        super().__init__(views[0].features, views[0].labels, views[0].device)
        self.views = views

    def at(self, epoch: int) -> CachedInputs:
        return self.views[epoch % len(self.views)]


def cache_features(
    trunk: Trunk,
    splits: Mapping[str, Images],
    advance: Callable[[int], None],
    memory_budget: int = MEMORY_BUDGET,
) -> dict[str, CachedInputs]:
    """Compute the features of every split, reporting progress as `advance(images done)`.

    They stay in memory if those of all splits together fit into `memory_budget` bytes. If not, they
    go to a file without a name in the system's temporary folder (TMPDIR chooses another), which is
    gone when the process ends, however it ends. Raises UserError if there is no room for it.
    """
    (one,) = _compute(trunk, next(iter(splits.values())), [np.array([0])])
    in_memory = one.nbytes * sum(len(images.labels) for images in splits.values()) <= memory_budget
    keep = _keep_in_memory if in_memory else _keep_in_file
    cached = {}
    for name, images in splits.items():
        shape = (len(images.labels), *one.shape[1:])
        chunks = _compute(trunk, images, split_batches(np.arange(len(images.labels)), AT_ONCE))
        features = keep(_telling(chunks, advance), shape, one.dtype)
        cached[name] = CachedInputs(features, images.labels, trunk.device)
    return cached


def _compute(trunk: Trunk, images: Images, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The features of each batch of images, on the host: [n, ...]."""
    return fetch_behind(batches_of(ImageInputs(images, trunk), batches), trunk.device)


def _telling(chunks: Iterable[np.ndarray], advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    """The chunks; `advance` is told of each how many images are done with it."""
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


def _keep_in_memory(
    chunks: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    features = np.empty(shape, dtype)
    done = 0
    for chunk in chunks:
        features[done : done + len(chunk)] = chunk
        done += len(chunk)
    return features


def _keep_in_file(
    chunks: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Written as a file and then mapped: a full disk is an error in `write`, but kills the process
    (SIGBUS) when it is found out by touching a mapped page.
    """
    size = math.prod(shape) * dtype.itemsize
    where = tempfile.gettempdir()
    try:
        if size > shutil.disk_usage(where).free:  # said before the work, not after half of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile() as file:
            for chunk in chunks:
                file.write(chunk.tobytes())
            file.flush()
            return np.asarray(np.memmap(file, dtype, mode="r", shape=shape))
    except OSError as error:
        raise UserError(
            f"{where}: the {size / 1e9:.1f} GB of frozen features cannot be kept there "
            f"({error.strerror}); set TMPDIR to a folder with more room, or use --no-cache"
        ) from error
