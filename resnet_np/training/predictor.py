"""A fine-tuned network at work: from image files to answers."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from resnet_np.autograd import Tensor, no_grad, softmax
from resnet_np.data.images import decode, views
from resnet_np.data.loader import load_ahead
from resnet_np.data.transfer import fetch_behind, send_ahead
from resnet_np.device import activation_dtype, require
from resnet_np.errors import UserError
from resnet_np.kernels import Array, using_precision
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.training.checkpoint import load_checkpoint, restore_model
from resnet_np.training.setup import network_config
from resnet_np.weights import WeightFile, has_record, names, read
from resnet_np.weights.locating import locate, names_of_classes

AT_ONCE = 8  # images in one batch


class Predictor:
    """A network with its class names and the input it expects.

    named: a checkpoint, any weight file or folder that has a head, or a published name.
    variant: of weights that cannot tell their own.
    device, precision: where it computes, and in what.
    tta: how often it looks at an image, see `resnet_np.data.images.views`; its answer is the mean
        of the probabilities.

    Its `advance` is told how many images more are done, for a progress bar.

    Raises UserError if the file is missing, damaged, or for another kind of network.
    """

    def __init__(
        self,
        named: str | os.PathLike[str],
        variant: str | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        tta: str = "none",
    ) -> None:
        require(device, precision)
        self.device, self.precision, self.tta = device, precision, tta
        path = locate(os.fspath(named))
        if has_record(path):
            checkpoint = load_checkpoint(path)
            self.model, self.classes = restore_model(checkpoint), checkpoint.classes
            if variant not in (None, self.model.config["variant"]):
                own = self.model.config["variant"]
                raise UserError(f"{path}: holds a {own} network, not the {variant} of --variant")
            self.contract, self.image_size = checkpoint.contract, checkpoint.image_size
        else:
            file = read(path)
            self.model = _from_weights(file, variant)
            count = self.model.config["num_classes"]
            self.classes = self.model.classes = names_of_classes(file) or _numbered(count)
            if len(self.classes) != count:
                raise UserError(f"{path}: has {len(self.classes)} class names for {count} classes")
            self.contract, self.image_size = file.contract, file.contract.crop
        self.model.to(device).eval()
        self.advance: Callable[[int], None] = lambda done: None

    def logits(self, paths: Sequence[str | Path]) -> np.ndarray:
        """What the network gives: float32 [N, K]. Raises UserError for a broken image.

        Of several looks at each image: the logarithm of the mean probabilities, of which softmax
        makes these again.
        """
        logits = self._run(paths, stop=None)
        if self.tta == "none":
            return logits
        looks = softmax(logits.astype(np.float64)).reshape(len(paths), -1, logits.shape[1])
        mean = looks.mean(axis=1)  # [N, v, K] -> [N, K]
        return np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32)

    def probabilities(self, paths: Sequence[str | Path]) -> np.ndarray:
        """Of each class for each image: float64 [N, K]. Raises UserError for a broken image."""
        return softmax(self.logits(paths).astype(np.float64))

    def features(self, paths: Sequence[str | Path]) -> np.ndarray:
        """The pooled features of each image, scaled to length 1: float32 [N, C].

        Their dot products are the cosines between images. Raises UserError for a broken image.
        """
        features = self._run(paths, stop="fc")
        features = features.reshape(len(paths), -1, features.shape[1]).mean(axis=1)  # [N, v, C]
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    def _run(self, paths: Sequence[str | Path], stop: str | None) -> np.ndarray:
        """The network's output up to stage `stop` for each look at each image file."""

        def load(chunk: np.ndarray) -> np.ndarray:
            looks = [views(decode(paths[i]), self.contract, self.image_size, self.tta)
                     for i in chunk]  # fmt: skip
            return np.concatenate(looks)

        chunks = np.split(np.arange(len(paths)), range(AT_ONCE, len(paths), AT_ONCE))
        outputs, dtype = [], activation_dtype(self.precision)

        def compute(pixels: Array) -> Array:
            x = self.contract.normalise(pixels).astype(dtype, copy=False)
            y = self.model(Tensor(x), stop=stop, checked=True).data
            return y.astype(np.float32, copy=False)

        with no_grad(), using_precision("tf32" if self.precision == "tf32" else "fp32"):
            pixels = send_ahead(load_ahead(load, chunks), self.device)
            results = fetch_behind(map(compute, pixels), self.device)
            for chunk, y in zip(chunks, results, strict=True):
                outputs.append(y)
                self.advance(len(chunk))
        return np.concatenate(outputs)


def _from_weights(file: WeightFile, variant: str | None) -> ResNet:
    """The network of a weight file, with the head that the file has. Raises UserError."""
    layers = names.head_layers(file.arrays)
    sizes = [file.arrays[f"{layer}.weight"].shape[1] for layer in layers]  # [C, K]
    if not sizes:
        raise UserError(
            f"{file.path}: has no head, so it knows no classes; `python -m resnet_np.finetune "
            f"--weights {shlex.quote(file.path)}` gives it one"
        )
    config = network_config(file, None, variant)
    model = ResNet(**config, num_classes=sizes[-1], head=tuple(sizes[:-1]))
    load_weights(model, file, replace_head=False)
    return model


def _numbered(count: int) -> tuple[str, ...]:
    """What to call classes whose names nobody said: nothing is guessed."""
    return tuple(f"class {k}" for k in range(count))
