"""Make the small Keras files beside this script, with Keras itself.

    KERAS_BACKEND=torch python tests/golden/make_keras_weights.py

The network is built by the code behind keras.applications.ResNet50, with one narrow block in each
stage instead of 3, 4, 6 and 3. Every variable gets its own numbers: `values(layer, tensor, shape)`
in tests/weights/keras_values.py, which the tests call again to know what to expect.
"""

import sys
from pathlib import Path

import keras
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "weights"))
from keras_values import values  # noqa: E402

FILTERS = (2, 3, 4, 5)


def stack(x: keras.KerasTensor) -> keras.KerasTensor:
    for stage, filters in enumerate(FILTERS, start=2):
        x = stack_residual_blocks_v1(x, filters, 1, 1 if stage == 2 else 2, name=f"conv{stage}")
    return x


def small_resnet(include_top: bool) -> keras.Model:
    return ResNet(
        stack,
        preact=False,
        use_bias=True,
        include_top=include_top,
        weights=None,
        input_shape=(32, 32, 3) if not include_top else (224, 224, 3),
        pooling=None if include_top else "avg",
        classes=7,
        name="resnet50",
        weights_name="resnet50",
    )


def fill(model: keras.Model) -> keras.Model:
    for variable in model.variables:
        if "seed" not in variable.path:
            layer, tensor = variable.path.split("/")[-2:]
            variable.assign(values(layer, tensor, variable.shape))
    return model


def nested(hidden: bool, frozen: bool) -> keras.Model:
    """The usual fine-tuning model: a trunk as one layer, augmentation before it, a head behind."""
    trunk = small_resnet(include_top=False)
    trunk.trainable = not frozen
    layers = [keras.layers.Input((32, 32, 3)), keras.layers.RandomFlip(), trunk]
    if hidden:
        layers += [keras.layers.Dense(6, activation="relu", name="hidden")]
    layers += [keras.layers.Dropout(0.5), keras.layers.Dense(4, name="classes")]
    return keras.Sequential(layers)


def main() -> None:
    import h5py

    top = fill(small_resnet(include_top=True))
    top.save_weights(HERE / "keras3_top.weights.h5")
    with h5py.File(HERE / "keras_legacy_top.h5", "w") as file:
        save_weights_to_hdf5_group(file, top)
    whole = fill(nested(hidden=False, frozen=True))
    whole.save(HERE / "keras_legacy_nested_frozen.h5")
    whole = fill(nested(hidden=True, frozen=False))
    whole.compile("sgd", "mse")
    whole.save_weights(HERE / "keras3_nested_hidden.weights.h5")


main()
