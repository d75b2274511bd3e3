"""Images by index, in batches, in an order that a seed fixes and any script can replay."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from resnet_np.data.folders import Samples
from resnet_np.data.images import decode, fit, load_image
from resnet_np.weights.contract import Contract

Wanted = TypeVar("Wanted")
Loaded = TypeVar("Loaded")


class Images(Protocol):
    """A set of labelled images of one size. labels: int64 [N]; classes: names by label.

    size: S, the side of the square images.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    size: int

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` [n] as bytes: uint8 [n, S, S, 3], RGB."""

    def whole(self, index: int) -> np.ndarray:
        """The image at `index` as it was before it was brought to size: uint8 [h, w, 3], RGB."""

    def fingerprint(self) -> str:
        """A SHA-256 by which the same images in the same order are known again, in hexadecimal."""


class FolderImages:
    """Images decoded from their files each time they are asked for."""

    def __init__(self, samples: Samples, contract: Contract, size: int) -> None:
        self.paths, self.labels, self.classes = samples.paths, samples.labels, samples.classes
        self.contract, self.size = contract, size

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Decode, resize and crop: uint8 [n, S, S, 3]. Raises UserError for a broken file."""
        return np.stack([load_image(self.paths[i], self.contract, self.size) for i in indices])

    def whole(self, index: int) -> np.ndarray:
        """The decoded file. Raises UserError if it is broken."""
        return np.asarray(decode(self.paths[index]))

    def fingerprint(self) -> str:
        """Over each file's path below the folder of all, its size, and its label: quickly made, and
        the same when the whole folder has moved. Raises OSError where a file has gone.
        """
        paths = [os.path.abspath(path) for path in self.paths]  # a table may have both kinds
        root = os.path.commonpath(paths)
        found = hashlib.sha256()
        for path, label in zip(paths, self.labels, strict=True):
            line = f"{os.path.relpath(path, root)}\0{os.path.getsize(path)}\0{label}\n"
            found.update(os.fsencode(line))
        return found.hexdigest()


class ArrayImages:
    """Images that lie in memory: uint8 [N, S, S, 3]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
        self.images, self.labels, self.classes = images, labels, classes
        self.size = images.shape[1]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """A copy of the images at `indices`: uint8 [n, S, S, 3]."""
        return self.images[indices]

    def whole(self, index: int) -> np.ndarray:
        return self.images[index]

    def fingerprint(self) -> str:
        """Over the labels and the pixels."""
        found = hashlib.sha256(self.labels.tobytes())
        found.update(np.ascontiguousarray(self.images).data)
        return found.hexdigest()


class ResizedImages(ArrayImages):
    """Images that lie in memory as they are, and are brought to size when they are asked for."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: tuple[str, ...],
        contract: Contract,
        size: int,
    ) -> None:
        super().__init__(images, labels, classes)
        self.contract, self.size = contract, size

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Resize and crop as if they were files: uint8 [n, S, S, 3]."""
        from PIL import Image

        images = (Image.fromarray(self.images[i]) for i in indices)
        return np.stack([fit(image, self.contract, self.size) for image in images])


def name_of(images: Images, index: int) -> str:
    """What to call an image: its path, or its number where it has none."""
    return str(images.paths[index]) if isinstance(images, FolderImages) else f"image {index}"


def epoch_order(rng: np.random.Generator, n: int) -> np.ndarray:
    """The order in which one epoch visits n images: int64 [n], the next permutation of `rng`.

    Training draws one permutation per epoch from `numpy.random.default_rng(seed)` and nothing else
    from that generator, so a script in another framework replays the batches of a run with:

        rng = np.random.default_rng(seed)
        for epoch in range(epochs):
            for batch in split_batches(epoch_order(rng, n), batch_size):
                ...
    """
    return rng.permutation(n)


def split_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut `order` into batches. The last may be smaller, but a single image left over joins the
    batch before it: batch statistics of one image say little.
    """
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and len(order) - starts[-1] == 1 and batch_size > 1:
        starts.pop()
    return [order[a:b] for a, b in zip(starts, [*starts[1:], len(order)], strict=True)]


def load_ahead(
    load: Callable[[Wanted], Loaded],
    batches: Iterable[Wanted],
    threads: int = min(4, os.cpu_count() or 1),
) -> Iterator[Loaded]:
    """`load(batch)` for each batch, in order, a batch ahead on each of so many other threads.

    Pillow decodes without holding Python's lock, so files are read while the network computes. An
    error in `load` is raised where its batch is due.
    """
    pending: deque = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
    try:
        for batch in batches:
            pending.append(pool.submit(load, batch))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
