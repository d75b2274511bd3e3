"""Labelled images that are changed at random: other views of them in every epoch."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from resnet_np.data.loader import Images
from resnet_np.data.transforms import (
    BatchTransform,
    RandomResizedCrop,
    Resize,
    Transform,
    batch_rng,
    image_rng,
    split_steps,
)
from resnet_np.errors import UserError


class AugmentedImages:
    """Images as transforms show them in one epoch; `at` gives those of another one.

    What an image looks like depends on (seed, epoch, its place in the data set) alone; how a batch
    is mixed, on (seed, epoch, the place of its first image). So reading ahead, the number of
    threads and a break in the middle of an epoch change nothing.

    Transforms that begin with a size of their own (RandomResizedCrop, Resize) are shown the images
    as they are; others what the network would be shown without them. Mixed pixels are rounded to
    bytes again.
    """

    def __init__(
        self,
        images: Images,
        steps: Sequence[Transform | BatchTransform],
        seed: int,
        views: int = 0,
    ) -> None:
        """views : if not 0, each image has only so many looks, which take turns.

        Raises UserError for transforms that cannot stand in this order.
        """
        self.images, self.seed, self.views, self.epoch = images, seed, views, 0
        self.labels, self.classes, self.size = images.labels, images.classes, images.size
        self.each, self.mixing = split_steps(steps)
        sized = Resize | RandomResizedCrop
        self.begins_whole = any(isinstance(step, sized) for step in self.each.transforms[:1])

    def at(self, epoch: int) -> "AugmentedImages":
        """The same images in another epoch; the first one is 0."""
        other = copy(self)
        other.epoch = epoch % self.views if self.views else epoch
        return other

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3]. Raises UserError if the transforms make images of another size."""
        views = np.stack([self._view(int(i)) for i in indices])
        if not self.mixing:
            return views
        pixels, _ = self._mix(views.astype(np.float32), indices)
        return pixels.round().astype(np.uint8)

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """What the network should say of these images: labels [n]; or, mixed, shares [n, K]."""
        if not self.mixing:
            return self.labels[indices]
        # How targets are mixed depends on the size of the images, not on what they show.
        blank = np.empty((len(indices), self.size, self.size, 0), np.float32)
        return self._mix(blank, indices)[1]

    def whole(self, index: int) -> np.ndarray:
        return self.images.whole(index)

    def fingerprint(self) -> str:
        return self.images.fingerprint()

    def _view(self, index: int) -> np.ndarray:
        image = (
            self.images.whole(index)
            if self.begins_whole
            else self.images.read(np.array([index]))[0]
        )
        view = self.each(image, image_rng(self.seed, self.epoch, index))
        h, w, s = *view.shape[:2], self.size
        if (h, w) != (s, s):
            raise UserError(
                f"--augment: {self.each.transforms[-1]} leaves an image of {w} x {h} pixels, but "
                f"the network is shown {s} x {s}: end with RandomResizedCrop({s}), CenterCrop({s})"
            )
        return view

    def _mix(self, pixels: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """pixels float32 [n, S, S, ...] -> the same, mixed, and their targets float32 [n, K]."""
        rng = batch_rng(self.seed, self.epoch, int(indices[0]))
        targets = np.eye(len(self.classes), dtype=np.float32)[self.labels[indices]]
        for step in self.mixing:
            pixels, targets = step(pixels, targets, rng)
        return pixels, targets
