"""Hugging Face's names, and the folders in which its library keeps a network."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file
from tiny import message_of, our_layout, torchvision_arrays

from resnet_np.errors import UserError
from resnet_np.weights import read
from resnet_np.weights.contract import HUGGINGFACE
from resnet_np.weights.formats.huggingface import MAX_JSON
from resnet_np.weights.formats.torch_writing import write_state_dict
from resnet_np.weights.names import hugging_face_names

THEIRS = {ours: theirs for theirs, ours in hugging_face_names().items()}


def theirs(arrays: dict[str, np.ndarray], trunk: str = "resnet.") -> dict[str, np.ndarray]:
    """torchvision's names -> Hugging Face's."""
    renamed = {}
    for name, array in arrays.items():
        module, _, leaf = name.rpartition(".")
        renamed[f"{THEIRS[module].replace('resnet.', trunk)}.{leaf}"] = array
    return renamed


@pytest.mark.parametrize("trunk", ["resnet.", ""])
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_names(tmp_path: Path, trunk: str, wrapper: str) -> None:
    arrays = torchvision_arrays()
    counter = {f"{trunk}embedder.embedder.normalization.num_batches_tracked": np.array(5)}
    stored = {wrapper + n: a for n, a in (theirs(arrays, trunk) | counter).items()}
    save_file(stored, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **stored)
    for format in ("safetensors", "npz"):
        file = read(tmp_path / f"a.{format}")
        assert set(file.arrays) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)
        assert list(file.left_out) == [wrapper + n for n in counter]
        facts = (file.format, file.source, file.variant, file.bn_eps, file.contract)
        assert facts == (format, "huggingface", None, 1e-5, HUGGINGFACE)


def test_unknown_names_are_shown_as_they_are_in_the_file(tmp_path: Path) -> None:
    arrays = theirs(torchvision_arrays())
    arrays["resnet.encoder.stages.4.layers.0.shortcut.convolution.weight"] = np.zeros((1, 1, 1, 1))
    save_file(arrays, tmp_path / "a.safetensors")
    message = message_of(tmp_path / "a.safetensors")
    assert "unknown names: resnet.encoder.stages.4.layers.0.shortcut" in message


def test_a_library_that_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic of a program in Rust is no Exception in Python."""

    class PanicException(BaseException):
        pass

    def give_up(*arguments: object, **options: object) -> None:
        raise PanicException("attempt to multiply with overflow")

    save_file(theirs(torchvision_arrays()), tmp_path / "a.safetensors")
    monkeypatch.setattr(safetensors, "safe_open", give_up)
    assert "not a .safetensors file (attempt to" in message_of(tmp_path / "a.safetensors")


# --- folders -------------------------------------------------------------------------------------

CONFIG = {
    "model_type": "resnet",
    "embedding_size": 2,
    "hidden_sizes": [12, 16, 20, 24],
    "depths": [1, 1, 1, 1],
    "id2label": {"0": "cat", "1": "dog", "2": "owl"},
}
# As the published networks of Microsoft have it.
IMAGES = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}


def make_folder(path: Path, config: dict | None = None, images: dict | None = None) -> Path:
    """A field that is None is left out."""
    path.mkdir()
    save_file(theirs(torchvision_arrays()), path / "model.safetensors")
    for name, record, more in (
        ("config.json", CONFIG, config),
        ("preprocessor_config.json", IMAGES, images),
    ):
        fields = record | (more or {})
        text = json.dumps({key: value for key, value in fields.items() if value is not None})
        (path / name).write_text(text)
    return path


def test_a_folder(tmp_path: Path) -> None:
    file = read(make_folder(tmp_path / "a"))
    assert (file.format, file.source, file.variant) == ("huggingface", "huggingface", "v1.5")
    assert (file.bn_eps, file.classes) == (1e-5, ("cat", "dog", "owl"))
    assert file.contract == HUGGINGFACE
    for name, array in torchvision_arrays().items():
        np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)


def test_a_folder_of_older_versions(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    with open(folder / "pytorch_model.bin", "wb") as file:
        write_state_dict(file, theirs(torchvision_arrays()), {})
    assert set(read(folder).arrays) == set(torchvision_arrays())


def test_stride_in_the_first_convolution_is_v1(tmp_path: Path) -> None:
    assert read(make_folder(tmp_path / "a", {"downsample_in_bottleneck": True})).variant == "v1"


def test_labels_that_nobody_gave(tmp_path: Path) -> None:
    labels = {str(i): f"LABEL_{i}" for i in range(3)}
    assert read(make_folder(tmp_path / "a", {"id2label": labels})).classes is None
    assert read(make_folder(tmp_path / "b", {"id2label": None})).classes is None


BIT = {
    "feature_extractor_type": None,
    "image_processor_type": "BitImageProcessorFast",
    "crop_pct": None,
    "do_center_crop": True,
    "size": {"shortest_edge": 232},
    "crop_size": {"height": 224, "width": 224},
    "resample": 2,
}
VIT = {
    "feature_extractor_type": None,
    "image_processor_type": "ViTImageProcessor",
    "crop_pct": None,
    "size": {"height": 96, "width": 96},
}
FACTOR = {"do_rescale": True, "rescale_factor": 0.5}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"size": {"shortest_edge": 160}, "crop_pct": 0.95}, {"crop": 160, "resize": 168}),
        ({"crop_pct": None}, {}),
        ({"size": 384}, {"fit": "stretch", "crop": 384, "resize": 384}),
        (BIT, {"resize": 232, "interpolation": "bilinear"}),
        (VIT, {"fit": "stretch", "resize": 96, "crop": 96}),
        (FACTOR, {"scale": 0.5}),
        ({"do_rescale": False}, {"scale": 1.0}),
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"do_convert_rgb": True, "processor_class": "x", "do_pad": False}, {}),
    ],
)
def test_contracts(tmp_path: Path, images: dict, expected: dict) -> None:
    assert read(make_folder(tmp_path / "a", images=images)).contract == replace(
        HUGGINGFACE, **expected
    )


@pytest.mark.parametrize(
    ("config", "images", "message"),
    [
        ({"model_type": "vit"}, {}, "model_type 'vit' where 'resnet' is due"),
        ({"depths": [1, 1, 1, 2]}, {}, "depths is [1, 1, 1, 2], its tensors have [1, 1, 1, 1]"),
        ({"depths": "many"}, {}, "depths is 'many'"),
        ({"hidden_sizes": None}, {}, "hidden_sizes is [256, 512, 1024, 2048], its tensors have"),
        ({"embedding_size": 3}, {}, "embedding_size is 3, its tensors have 2"),
        ({"layer_type": "basic"}, {}, "layer_type is 'basic', its tensors have 'bottleneck'"),
        ({"hidden_act": "gelu"}, {}, "hidden_act is 'gelu', where 'relu' is due"),
        ({"downsample_in_first_stage": True}, {}, "downsample_in_first_stage is True"),
        ({"downsample_in_bottleneck": "yes"}, {}, "downsample_in_bottleneck is neither"),
        ({"id2label": {"0": "cat"}}, {}, "no table of the 3 classes"),
        ({"id2label": ["cat", "dog", "owl"]}, {}, "no table of the 3 classes"),
        ({"id2label": {"0": "cat", "1": 2, "2": "owl"}}, {}, "classes is no list of texts"),
        ({"resnet_np": 7}, {}, "'resnet_np' is damaged"),
        ({"resnet_np": {"contract": []}}, {}, "'resnet_np' is damaged"),
        ({}, {"feature_extractor_type": "SamFeatureExtractor"}, "'SamFeatureExtractor' is none of"),
        ({}, {"feature_extractor_type": None}, "image_processor_type None is none of"),
        ({}, {"do_pad": True}, "what 'do_pad' does is not known here"),
        ({}, {"do_resize": False}, "do_resize is false"),
        ({}, {"do_resize": 1}, "do_resize is 1, neither true nor false"),
        ({}, {"resample": 9}, "resample is 9"),
        ({}, {"resample": None}, "resample is None, not a number"),
        ({}, {"size": {"longest_edge": 224}}, "size is {'longest_edge': 224}"),
        ({}, {"size": {"shortest_edge": -1}}, "size is -1"),
        ({}, {"size": True}, "size is True"),
        ({}, {"crop_pct": 0}, "crop_pct is 0"),
        ({}, {"crop_pct": "all"}, "crop_pct is 'all', not a number"),
        ({}, {"do_center_crop": True}, "which ConvNext's class does not have"),
        ({}, {"image_mean": None}, "image_mean is None, where three numbers are due"),
        ({}, {"image_mean": [1, 2]}, "image_mean is [1, 2], where three numbers are due"),
        ({}, {"image_std": [0, 1, 1]}, "std and scale must be above 0"),
        ({}, {"image_std": [10**400, 1, 1]}, "image_std is too large"),
        ({}, {"image_mean": [float("nan"), 1, 1]}, "image_mean is too large"),
        ({}, BIT | {"do_center_crop": False}, "images have different sizes"),
        ({}, BIT | {"crop_size": {"height": 224, "width": 225}}, "crop_size is {"),
        ({}, BIT | {"crop_size": 240}, "crop 240 does not fit into resize 232"),
        ({}, VIT | {"do_center_crop": True, "crop_size": 90}, "a smaller one cut from that"),
    ],
)
def test_what_is_not_understood(tmp_path: Path, config: dict, images: dict, message: str) -> None:
    assert message in message_of(make_folder(tmp_path / "a", config, images))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON file"),
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "not a JSON object"),
        ("{}" + " " * MAX_JSON, "longer than"),
        ('{"depths": ' + "9" * 5000 + "}", "not a JSON file"),
        ("\xff", "not a JSON file"),
    ],
)
def test_json_of_strangers(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read(folder)
    assert message in str(caught.value)


def test_missing_parts(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / "preprocessor_config.json").unlink()
    assert read(folder).contract == HUGGINGFACE  # as for the tensors alone
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in message_of(folder)
    (folder / "config.json").unlink()
    assert "a folder without config.json" in message_of(folder)


def test_a_folder_of_torchvision_names(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    save_file(torchvision_arrays(), folder / "model.safetensors")
    assert "its tensors do not have Hugging Face's names" in message_of(folder)


def test_blocks_of_two_convolutions_have_one_variant(tmp_path: Path) -> None:
    """Whatever downsample_in_bottleneck says: the library only looks at it in bottlenecks."""
    config = {"layer_type": "basic", "hidden_sizes": [3, 4, 5, 6]}
    folder = make_folder(tmp_path / "a", config | {"downsample_in_bottleneck": True})
    arrays = torchvision_arrays()
    basic = {n: a for n, a in arrays.items() if not re.search(r"\.(conv|bn)3\.", n)}
    save_file(theirs(basic), folder / "model.safetensors")
    assert read(folder).variant == "v1.5"


def test_our_contract_without_theirs(tmp_path: Path) -> None:
    """It is in config.json, too, and stays with the tensors where the other file gets lost."""
    contract = replace(HUGGINGFACE, mean=(0.1, 0.2, 0.3), antialias=False)
    folder = make_folder(tmp_path / "a", {"resnet_np": {"contract": contract.to_record()}})
    (folder / "preprocessor_config.json").unlink()
    assert read(folder).contract == contract
