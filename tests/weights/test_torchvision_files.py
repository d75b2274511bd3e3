"""Files with torchvision's names, our checkpoints, and what is no weight file at all."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import message_of, our_layout, torchvision_arrays

from resnet_np.weights import TORCHVISION, read, save_npz
from resnet_np.weights.names import BLOCKS

Arrays = dict[str, np.ndarray]


def write_npz(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def write_safetensors(path: Path, arrays: Arrays) -> None:
    save_file(arrays, path)


both = pytest.mark.parametrize(
    ("write", "format"), [(write_npz, "npz"), (write_safetensors, "safetensors")]
)


@both
@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_and_layout(
    tmp_path: Path, write: Callable[[Path, Arrays], None], format: str, prefix: str
) -> None:
    path = tmp_path / "weights.npz"  # for both: the content decides, not the name
    arrays = torchvision_arrays()
    counter = {"bn1.num_batches_tracked": np.array(5)}
    write(path, {prefix + name: a for name, a in (arrays | counter).items()})
    file = read(path)
    assert set(file.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.arrays[name], our_layout(array), err_msg=name)
        assert file.arrays[name].flags.c_contiguous
    assert list(file.left_out) == [f"{prefix}bn1.num_batches_tracked"]
    facts = (file.format, file.source, file.variant, file.bn_eps, file.conv_bias, file.contract)
    assert facts == (format, "torchvision", None, 1e-5, False, TORCHVISION)


def test_by_hand(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    write_npz(tmp_path / "a.npz", arrays)
    file = read(tmp_path / "a.npz")
    # kernel row 2, column 3, input channel 1, output channel 0
    assert file.arrays["conv1.weight"][2, 3, 1, 0] == arrays["conv1.weight"][0, 1, 2, 3]
    assert file.arrays["fc.weight"][4, 2] == arrays["fc.weight"][2, 4]


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_depth(tmp_path: Path, depth: int) -> None:
    write_npz(tmp_path / "a.npz", torchvision_arrays(BLOCKS[depth]))
    assert read(tmp_path / "a.npz").depth == depth


def test_biases_mean_weights_from_elsewhere(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", torchvision_arrays(bias=True))
    file = read(tmp_path / "a.npz")
    assert file.conv_bias
    assert file.bn_eps is None


def test_folded_statistics(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    for name in arrays:
        if name.endswith("running_mean"):
            arrays[name][:] = 0
        elif name.endswith("running_var"):
            arrays[name][:] = 1
    write_npz(tmp_path / "a.npz", arrays)
    assert read(tmp_path / "a.npz").folded_statistics
    arrays["layer4.0.bn2.running_var"][1] = 2
    write_npz(tmp_path / "b.npz", arrays)
    assert not read(tmp_path / "b.npz").folded_statistics


def test_16_bit_numbers_are_widened(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    narrow = {name: a.astype(ml_dtypes.bfloat16) for name, a in arrays.items()}
    narrow["fc.bias"] = arrays["fc.bias"].astype(np.float16)
    write_safetensors(tmp_path / "a.safetensors", narrow)
    file = read(tmp_path / "a.safetensors")
    assert {a.dtype for a in file.arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(file.arrays["bn1.weight"], narrow["bn1.weight"].astype("f4"))


def test_numbers_of_a_big_endian_machine(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    write_npz(tmp_path / "a.npz", {name: a.astype(">f4") for name, a in arrays.items()})
    for name, array in read(tmp_path / "a.npz").arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, our_layout(arrays[name]), err_msg=name)


def test_double_precision_is_kept(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {n: a.astype("f8") for n, a in torchvision_arrays().items()})
    assert read(tmp_path / "a.npz").arrays["conv1.weight"].dtype == np.float64


@both
def test_everything_wrong_is_listed_together(
    tmp_path: Path, write: Callable[[Path, Arrays], None], format: str
) -> None:
    arrays = torchvision_arrays()
    arrays["conv1.weight"] = arrays["conv1.weight"].reshape(2, 3, 49)
    arrays["bn1.running_var"] = -arrays["bn1.running_var"]
    arrays["layer1.0.bn1.bias"][0] = np.inf
    arrays["layer2.0.bn1.bias"][0] = np.nan
    arrays["layer1.0.conv1.weight"] = np.zeros((3, 2, 1, 1), np.int32)
    arrays["layer9.0.conv1.weight"] = np.zeros((3, 2, 1, 1), np.float32)
    arrays["classifier.bias"] = np.zeros(3, np.float32)
    del arrays["layer3.0.bn1.running_mean"]
    write(tmp_path / "a", arrays)
    message = message_of(tmp_path / ("a.npz" if format == "npz" else "a"))
    for part in (
        "rank 3 instead of 4: conv1.weight",
        "variances below zero: bn1.running_var",
        "layer1.0.bn1.bias, layer2.0.bn1.bias",
        "int32 where weights are floating: layer1.0.conv1.weight",
        "layer9.0.conv1.weight",
        "classifier.bias",
        "missing: layer3.0.bn1.running_mean",
    ):
        assert part in message


def test_lengths_that_do_not_fit(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    arrays["layer1.0.bn2.bias"] = np.zeros(9, np.float32)
    write_npz(tmp_path / "a.npz", arrays)
    assert "layer1.0.conv2.weight makes 3 channels, layer1.0.bn2.bias has 9" in message_of(
        tmp_path / "a.npz"
    )


def test_grouped_convolutions_are_another_network(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    arrays["layer1.0.conv2.weight"] = np.zeros((3, 1, 3, 3), np.float32)  # three groups of one
    write_npz(tmp_path / "a.npz", arrays)
    assert "layer1.0.conv1.weight makes 3 channels, layer1.0.conv2.weight takes 1" in message_of(
        tmp_path / "a.npz"
    )


def test_another_stem_is_said_to_be_one(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    arrays["conv1.0.weight"] = arrays.pop("conv1.weight")
    write_npz(tmp_path / "a.npz", arrays)
    assert "conv1.0.weight: a stem of several convolutions" in message_of(tmp_path / "a.npz")


def test_arrays_without_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros(3), np.zeros(4))
    assert "unknown names: arr_0, arr_1" in message_of(tmp_path / "a.npz")


def test_checkpoints_are_in_our_layout(tmp_path: Path) -> None:
    arrays = {f"model/{n}": our_layout(a) for n, a in torchvision_arrays().items()}
    record = {
        "model": {"variant": "v1", "bn_eps": 1e-3},
        "contract": TORCHVISION.to_record(),
        "classes": ["cat", "dog", "owl"],
    }
    save_npz(tmp_path / "a.npz", arrays | {"optimizer/fc.weight": np.zeros(2)}, record)
    file = read(tmp_path / "a.npz")
    assert (file.format, file.source, file.variant) == ("checkpoint", "resnet_np", "v1")
    assert (file.bn_eps, file.classes) == (1e-3, ("cat", "dog", "owl"))
    assert file.record is not None and file.record["format"] == 1
    assert list(file.left_out) == ["optimizer/fc.weight"]
    np.testing.assert_array_equal(file.arrays["conv1.weight"], arrays["model/conv1.weight"])


@pytest.mark.parametrize(
    "record",
    [
        {"contract": {"color": "RGB"}},
        {"contract": 3},
        {"model": 5},
        {"classes": 7},
        *({"image_size": size} for size in (-1, 64.5, "64", 1 << 17, 10**400)),
    ],
    ids=lambda record: str(record)[:30],
)
def test_checkpoints_with_a_damaged_record(tmp_path: Path, record: dict) -> None:
    save_npz(tmp_path / "a.npz", {"model/fc.bias": np.zeros(2)}, record)
    assert "its record is damaged" in message_of(tmp_path / "a.npz")


def test_class_names_that_do_not_fit_the_head(tmp_path: Path) -> None:
    arrays = {f"model/{n}": our_layout(a) for n, a in torchvision_arrays(classes=3).items()}
    save_npz(tmp_path / "a.npz", arrays, {"classes": ["cat", "dog"]})
    assert message_of(tmp_path / "a.npz").endswith("a.npz: 2 class names for 3 classes")


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


ONE = '"dtype": "F32", "shape": [1], "data_offsets": [0, 4]'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello, this is a text", "not a known weight format"),
        (b"\x80\x02}q\x00.", "a pickle, but none of torch.save"),
        (b"\x80\x04}q\x00.", "a pickle, but none of torch.save"),
        (b"sys_info".ljust(257, b"\0") + b"ustar\0", "a tar archive cut short"),
        (header(f'{{"bn1.bias": {{{ONE}}}}}', b"abc"), "one cut short"),
        (header('{"bn1.bias": {'), "not a .safetensors file"),
        (
            header(f'{{"bn1.bias": {{{ONE}}}, "bn1.bias": {{{ONE}}}}}', b"abcd"),
            "'bn1.bias' is there 2 times",
        ),
        (
            header('{"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}', b"a"),
            "has a type that NumPy lacks",
        ),
    ],
)
def test_what_is_no_weight_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    assert message in message_of(tmp_path / "a")


def test_headers_may_be_padded(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, torchvision_arrays())
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    text = json.dumps(json.loads(data[8 : 8 + length])) + " " * 7
    path.write_bytes(header(text, data[8 + length :]))
    assert len(read(path).arrays) == len(torchvision_arrays())


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in message_of(tmp_path / "none.npz")
    assert "a folder without config.json" in message_of(tmp_path)


def test_libraries_are_imported_only_when_a_file_needs_them() -> None:
    code = (
        "import sys, resnet_np.weights; "
        "sys.exit(bool({'h5py', 'safetensors', 'ml_dtypes'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
