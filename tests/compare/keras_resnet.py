"""Keras' own ResNet-50 with random variables, saved in its formats, and ours built from the files.

Import this before keras: it chooses the backend that the comparisons install.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from resnet_np import Tensor, no_grad
from resnet_np.models import ResNet
from resnet_np.models.pretrained import load_weights
from resnet_np.weights import KERAS_CAFFE, WeightFile

FORMATS = ("legacy.h5", "whole.h5", "keras3.weights.h5", "keras3.keras")


def random_resnet50(size: int = 224, seed: int = 0) -> keras.Model:
    """keras.applications.ResNet50 in which no two variables hold the same numbers.

    The scales keep the activations near 1 through all 50 layers, so that every bias matters.
    """
    model = keras.applications.ResNet50(
        weights=None, classifier_activation=None, input_shape=(size, size, 3)
    )
    randomise(model, seed)
    return model


def randomise(model: keras.Model, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape, (layer, kind) = tuple(variable.shape), variable.path.split("/")[-2:]
        if kind == "seed_generator_state":
            continue
        if kind == "kernel":
            values = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        elif kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.4, 1.2, shape)
        else:
            values = rng.normal(size=shape) * 0.2
        if layer == "conv1_conv" and kind == "kernel":
            values /= 100  # its input is in bytes
        elif layer.endswith("_3_bn") and kind == "gamma":
            values /= 3  # 16 blocks each add to their input
        variable.assign(values.astype(np.float32))


def save_in_all_formats(model: keras.Model, folder: Path) -> dict[str, Path]:
    """The legacy format as weights alone and as a whole model, and Keras 3's two."""
    paths = {name: folder / name for name in FORMATS}
    save_legacy_weights(model, paths["legacy.h5"])
    model.save(paths["whole.h5"])
    model.save_weights(paths["keras3.weights.h5"])
    model.save(paths["keras3.keras"])
    return paths


def save_legacy_weights(model: keras.Model, path: Path) -> None:
    """What `save_weights` wrote up to Keras 2."""
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)


def our_model(file: WeightFile) -> ResNet:
    """Our ResNet-50 v1 with the weights of the file."""
    model = ResNet(50, variant="v1", conv_bias=file.conv_bias, bn_eps=file.bn_eps or 0.0)
    load_weights(model, file, replace_head=False)
    model.eval()
    return model


def our_logits(model: ResNet, images: np.ndarray) -> np.ndarray:
    """images: uint8 [N, H, W, 3] -> logits [N, 1000]."""
    with no_grad():
        return model(Tensor(KERAS_CAFFE.normalise(images))).numpy()


def keras_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """The same in Keras, with Keras' own preprocessing."""
    x = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    return np.concatenate([model.predict_on_batch(x[i : i + 1]) for i in range(len(x))])


def relative_errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """max|a - b| / max|b| for each row. [N, K], [N, K] -> [N]."""
    return np.abs(a - b).max(axis=1) / np.abs(b).max(axis=1)


def swap_statistics(file: WeightFile, norm: str) -> WeightFile:
    """The mistake of reading one batch norm's statistics in the wrong order."""
    mean, var = f"{norm}.running_mean", f"{norm}.running_var"
    return _with(file, {mean: file.arrays[var], var: np.abs(file.arrays[mean])})


def drop_bias(file: WeightFile, module: str) -> WeightFile:
    """The mistake of forgetting one bias."""
    return _with(file, {f"{module}.bias": np.zeros_like(file.arrays[f"{module}.bias"])})


def _with(file: WeightFile, arrays: dict[str, np.ndarray]) -> WeightFile:
    return replace(file, arrays=file.arrays | arrays)
