"""Make the small Keras files beside this script, with Keras itself.

    KERAS_BACKEND=torch python tests/golden/make_keras_weights.py
    python tests/golden/make_keras_weights.py     where tensorflow-cpu==2.15.1 is installed
    python tests/golden/make_keras_weights.py     where tensorflow-cpu==2.12.1 is installed

The network is built by the code behind keras.applications.ResNet50, with one narrow block in each
stage instead of 3, 4, 6 and 3. Every variable gets its own numbers: `values(layer, tensor, shape)`
in tests/weights/keras_values.py, which the tests call again to know what to expect.

Keras 2 wrote layers without names. There the whole ResNet-50 is needed, since it is known by its
shapes: one number for each variable, and 95 MB become a few thousand bytes.
"""

import lzma
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    import keras
    from keras.src.applications.resnet import ResNet
except ImportError:  # Keras 2.12
    from keras.applications.resnet import ResNet
    from tensorflow import keras

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "weights"))
from keras_values import constants, values  # noqa: E402

FILTERS = (2, 3, 4, 5)

# Tests that change a file in many places begin with these.
PLAIN = (
    "keras_legacy_top.h5",
    "keras_legacy_nested_frozen.h5",
    "keras3_top.weights.h5",
    "keras3_nested_hidden.weights.h5",
)


def stack(x: Any) -> Any:
    module = sys.modules[ResNet.__module__]
    stack_blocks = getattr(module, "stack1", None) or module.stack_residual_blocks_v1
    for stage, filters in enumerate(FILTERS, start=2):
        x = stack_blocks(x, filters, 1, 1 if stage == 2 else 2, name=f"conv{stage}")
    return x


def small_resnet(include_top: bool) -> Any:
    return ResNet(
        stack,
        False,  # no activation in front of the blocks
        True,  # biases
        include_top=include_top,
        weights=None,
        input_shape=(32, 32, 3) if not include_top else (224, 224, 3),
        pooling=None if include_top else "avg",
        classes=7,
    )


def fill(model: Any, numbers: Any = values) -> Any:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            fill(layer, numbers)
        else:
            for variable in layer.variables:
                tensor = variable.name.split("/")[-1].split(":")[0]
                if "seed" not in tensor and "State" not in tensor:
                    variable.assign(numbers(layer.name, tensor, variable.shape))
    return model


def nested(hidden: bool, frozen: bool) -> Any:
    """The usual fine-tuning model: a trunk as one layer, augmentation before it, a head behind."""
    trunk = small_resnet(include_top=False)
    trunk.trainable = not frozen
    layers = [keras.layers.Input((32, 32, 3)), keras.layers.RandomFlip(), trunk]
    if hidden:
        layers += [keras.layers.Dense(6, activation="relu", name="hidden")]
    layers += [keras.layers.Dropout(0.5), keras.layers.Dense(4, name="classes")]
    return fill(keras.Sequential(layers))


def with_names(folder: Path) -> None:
    """What the current Keras writes."""
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    top = fill(small_resnet(include_top=True))
    top.save_weights(folder / "keras3_top.weights.h5")
    top.save(folder / "keras3_top.keras")
    for name, model in (("top", top), ("notop", fill(small_resnet(include_top=False)))):
        with h5py.File(folder / f"keras_legacy_{name}.h5", "w") as file:
            save_weights_to_hdf5_group(file, model)
    nested(hidden=False, frozen=True).save(folder / "keras_legacy_nested_frozen.h5")
    nested(hidden=False, frozen=False).save(folder / "keras_legacy_nested_trainable.h5")
    whole = nested(hidden=True, frozen=False)
    whole.compile("sgd", "mse")
    whole.save_weights(folder / "keras3_nested_hidden.weights.h5")
    whole.save(folder / "keras3_nested_hidden.keras")


def without_names(folder: Path) -> None:
    """What Keras 2 wrote: in the zip, config.json has the names; alone, the order has to do."""
    version = "".join(keras.__version__.split(".")[:2])
    whole = nested(hidden=False, frozen=False)
    whole.save(folder / f"keras{version}_nested.keras", save_format="keras_v3")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "a.weights.h5")
        large = fill(keras.applications.ResNet50(weights=None, classes=7), constants)
        if version == "212":
            from keras.saving.saving_lib import save_weights_only

            save_weights_only(large, str(path))
        else:
            large.save_weights(path)
        shutil.move(path, folder / f"keras{version}_resnet50.weights.h5")


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (without_names if keras.__version__.startswith("2") else with_names)(folder)
        for path in folder.iterdir():
            data = path.read_bytes()
            if path.name in PLAIN:
                (target / path.name).write_bytes(data)
            else:
                (target / f"{path.name}.xz").write_bytes(lzma.compress(data, preset=9))


main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
