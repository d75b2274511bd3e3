"""What the first trainable stage gets to see, computed once where everything before it is frozen.

The features of an image at a frozen boundary are the same in every epoch. `CachedInputs` computes
them once; `ImageInputs` computes them again each time they are asked for. Both go through
`Trunk.features`, in which an image's features do not depend on who else is in the batch: training
with and without the cache gives the same parameters, bit for bit.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from resnet_np.autograd import Tensor, no_grad
from resnet_np.data.loader import Images, load_ahead, split_batches
from resnet_np.device import activation_dtype, to_device, to_host
from resnet_np.errors import UserError
from resnet_np.kernels import Array, get_array_module
from resnet_np.models.resnet import ResNet
from resnet_np.weights.contract import Contract

MEMORY_BUDGET = 2 * 2**30  # bytes of features to keep in memory; more than that goes to a file
READ_AT_ONCE = 16  # images decoded at a time while the features are computed


class Inputs(Protocol):
    """Inputs of the first trainable stage, by image. labels: int64 [N].

    Getting a batch has two steps, so that files can be read on other threads while the network
    computes: `load` reads, `prepare` computes.
    """

    labels: np.ndarray

    def load(self, indices: np.ndarray) -> np.ndarray:
        """What lies in memory or in files for these images, as it lies there."""

    def prepare(self, loaded: np.ndarray) -> Array:
        """[n, ...] for `model(x, start=...)`, on the model's device, in the run's precision."""


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

    def features(self, images: np.ndarray) -> Array:
        """uint8 [n, S, S, 3] -> [n, ...], the same for an image in any company.

        On the CPU the kernels see to that. On a GPU the images go through one by one: the library's
        matrix products choose how to sum by how many rows there are.
        """
        x = to_device(self.contract.normalise(images), self.device).astype(self.dtype, copy=False)
        if self.stop == "stem":
            return x
        at_once = len(x) if self.device == "cpu" else 1
        with no_grad():
            chunks = [
                self.model(Tensor(x[i : i + at_once]), stop=self.stop).data
                for i in range(0, len(x), at_once)
            ]
        return get_array_module(x).concatenate(chunks)


class ImageInputs:
    """Features computed anew whenever they are asked for."""

    def __init__(self, images: Images, trunk: Trunk) -> None:
        self.images, self.trunk, self.labels = images, trunk, images.labels

    def load(self, indices: np.ndarray) -> np.ndarray:
        return self.images.read(indices)

    def prepare(self, loaded: np.ndarray) -> Array:
        return self.trunk.features(loaded)


class CachedInputs:
    """Features that were computed before: [N, ...], in memory or in a file."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, device: str) -> None:
        self.features, self.labels, self.device = features, labels, device

    def load(self, indices: np.ndarray) -> np.ndarray:
        return self.features[indices]

    def prepare(self, loaded: np.ndarray) -> Array:
        return to_device(loaded, self.device)


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
    first = next(iter(splits.values()))
    one = to_host(trunk.features(first.read(np.array([0]))))
    in_memory = one.nbytes * sum(len(images.labels) for images in splits.values()) <= memory_budget
    keep = _keep_in_memory if in_memory else _keep_in_file
    cached = {}
    for name, images in splits.items():
        shape = (len(images.labels), *one.shape[1:])
        features = keep(_compute(trunk, images, advance), shape, one.dtype)
        cached[name] = CachedInputs(features, images.labels, trunk.device)
    return cached


def _compute(trunk: Trunk, images: Images, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    """The features of all images in order, some at a time: [n, ...]."""
    chunks = split_batches(np.arange(len(images.labels)), READ_AT_ONCE)
    for pixels in load_ahead(images.read, chunks):
        yield to_host(trunk.features(pixels))
        advance(len(pixels))


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
    try:
        with tempfile.TemporaryFile() as file:
            for chunk in chunks:
                file.write(chunk.tobytes())
            file.flush()
            return np.asarray(np.memmap(file, dtype, mode="r", shape=shape))
    except OSError as error:
        size = int(np.prod(shape)) * dtype.itemsize / 1e9
        raise UserError(
            f"{tempfile.gettempdir()}: the {size:.1f} GB of frozen features cannot be kept there "
            f"({error.strerror}); set TMPDIR to a folder with more room, or use --no-cache"
        ) from error
