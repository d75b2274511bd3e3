"""Does a ResNet-50 that Keras saved give Keras' logits here?

    KERAS_BACKEND=torch python benchmarks/acceptance/04_keras_parity.py

Every variable of keras.applications.ResNet50 gets its own random numbers; Keras saves the network
in each of its HDF5 formats; each file is read and run on the same 224-pixel images. Then two
mistakes are made on purpose in every layer where they can be made, and must show: one pair of
statistics swapped, one bias dropped. Exits with 1 if anything is out of bounds. A minute or two.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))
import keras_resnet
from keras_resnet import drop_bias, our_model, relative_errors, swap_statistics

from resnet_np.models.pretrained import load_weights
from resnet_np.weights import WeightFile, read

BOUND = 1e-5


def parity(files: dict[str, WeightFile], model: keras_resnet.keras.Model) -> bool:
    """Four images of noise at 224 pixels, each format."""
    images = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    expected = keras_resnet.keras_logits(model, images)
    good = True
    for name, file in files.items():
        errors = relative_errors(keras_resnet.our_logits(our_model(file), images), expected)
        good = good and bool(errors.max() <= BOUND)
        print(f"{name:18} relative error of the logits: {errors.max():.1e} (at most {BOUND:.0e})")
    return good


def mutants(file: WeightFile) -> bool:
    """Each mistake alone, on one 64-pixel image, against the logits without mistakes."""
    image = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    model = our_model(file)
    right = keras_resnet.our_logits(model, image)
    good = True
    for what, suffix, mistake in (
        ("statistics swapped", ".running_mean", swap_statistics),
        ("bias dropped", ".bias", drop_bias),
    ):
        modules = [n.removesuffix(suffix) for n in file.arrays if n.endswith(suffix)]
        errors = []
        for module in modules:
            load_weights(model, mistake(file, module))
            errors.append(relative_errors(keras_resnet.our_logits(model, image), right)[0])
        noticed = sum(error > BOUND for error in errors)
        good = good and noticed == len(modules)
        print(f"{what:18} noticed in {noticed} of {len(modules)} layers, from {min(errors):.1e} on")
    return good


def main() -> int:
    model = keras_resnet.random_resnet50(224)
    with tempfile.TemporaryDirectory() as folder:
        paths = keras_resnet.save_in_all_formats(model, Path(folder))
        files = {name: read(path) for name, path in paths.items()}
    good = [parity(files, model), mutants(files["keras3.weights.h5"])]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
