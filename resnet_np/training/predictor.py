"""A fine-tuned network at work: from image files to answers."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from resnet_np.autograd import Tensor, no_grad, softmax
from resnet_np.data.images import load_image
from resnet_np.data.loader import load_ahead
from resnet_np.training.checkpoint import load_checkpoint, restore_model

AT_ONCE = 8  # images in one batch


class Predictor:
    """The network of a checkpoint, with its class names and the input it expects.

    advance: is told how many images more are done, for a progress bar.

    Raises UserError if the checkpoint is missing, damaged, or for another kind of network.
    """

    def __init__(
        self, path: str | os.PathLike[str], advance: Callable[[int], None] = lambda done: None
    ) -> None:
        checkpoint = load_checkpoint(path)
        self.model = restore_model(checkpoint)
        self.model.eval()
        self.classes = checkpoint.classes
        self.contract = checkpoint.contract
        self.image_size = checkpoint.image_size
        self.advance = advance

    def probabilities(self, paths: Sequence[str | Path]) -> np.ndarray:
        """Of each class for each image: float64 [N, K]. Raises UserError for a broken image."""
        return softmax(self._run(paths, stop=None).astype(np.float64))

    def features(self, paths: Sequence[str | Path]) -> np.ndarray:
        """The pooled features of each image, scaled to length 1: float32 [N, C].

        Their dot products are the cosines between images. Raises UserError for a broken image.
        """
        features = self._run(paths, stop="fc")
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    def _run(self, paths: Sequence[str | Path], stop: str | None) -> np.ndarray:
        """The network's output up to stage `stop` for each image file."""

        def load(chunk: np.ndarray) -> np.ndarray:
            return np.stack([load_image(paths[i], self.contract, self.image_size) for i in chunk])

        chunks = np.split(np.arange(len(paths)), range(AT_ONCE, len(paths), AT_ONCE))
        outputs = []
        with no_grad():
            for pixels in load_ahead(load, chunks):
                x = Tensor(self.contract.normalise(pixels))
                outputs.append(self.model(x, stop=stop).data)
                self.advance(len(pixels))
        return np.concatenate(outputs)
