"""Small valid files of every format, as bytes, for mutants to be made of.

The containers are put together by hand, so that a mutant can lie in any field of them.
"""

import io
import json
import pickle
import struct
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from resnet_np.weights.layout import from_torch

Arrays = dict[str, np.ndarray]
GOLDEN = Path(__file__).parents[1] / "golden"


def network() -> Arrays:
    """The smallest thing that is read as a ResNet: a stem and a head."""
    rng = np.random.default_rng(0)
    arrays = {"conv1.weight": rng.normal(size=(2, 3, 3, 2)).astype(np.float32)}
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        arrays[f"bn1.{leaf}"] = rng.uniform(1, 2, 2).astype(np.float32)
    arrays["fc.weight"] = rng.normal(size=(3, 2)).astype(np.float32)
    arrays["fc.bias"] = rng.normal(size=3).astype(np.float32)
    return arrays


# --- zip -----------------------------------------------------------------------------------------


@dataclass
class Entry:
    """An entry of a zip; `lies` overrides fields of its headers, see `make_zip`."""

    name: bytes
    content: bytes
    deflated: bool = False
    lies: dict[str, int] = field(default_factory=dict)


def make_zip(entries: list[Entry], comment: bytes = b"") -> bytes:
    """A zip. Fields that can be lied about: method, flags, crc, packed, size, offset, attributes.

    A lie stands in both headers of an entry, unless its name begins with "local " or "central ".
    """
    body, directory = bytearray(), bytearray()
    for entry in entries:
        packed = entry.content
        if entry.deflated:
            deflate = zlib.compressobj(6, wbits=-15)
            packed = deflate.compress(packed) + deflate.flush()
        truth = (0x800, 8 if entry.deflated else 0, 0, 0x21)  # the name is UTF-8; a date
        truth += (zlib.crc32(entry.content), len(packed), len(entry.content))
        local = central = truth
        offset = entry.lies.get("offset", len(body)) % (1 << 32)
        if entry.lies:
            local, central = (_lying(entry.lies, truth, side) for side in ("local ", "central "))
        n = len(entry.name) & 0xFFFF
        body += struct.pack("<4s5H3I2H", b"PK\3\4", 20, *local, n, 0) + entry.name + packed
        directory += struct.pack(
            "<4s2H4H3I5H2I",
            b"PK\1\2",
            20,
            20,
            *central,
            n,
            0,
            0,
            0,
            0,
            entry.lies.get("attributes", 0) % (1 << 32),
            offset,
        )
        directory += entry.name
    n = len(entries) & 0xFFFF
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n, n, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)


HEADER = {"flags": 16, "method": 16, "time": 16, "date": 16, "crc": 32, "packed": 32, "size": 32}
"""Fields that both headers of an entry have, in their order, and how many bits each takes."""


def _lying(lies: dict[str, int], truth: tuple[int, ...], side: str) -> tuple[int, ...]:
    fields = zip(HEADER.items(), truth, strict=True)
    return tuple(
        lies.get(side + name, lies.get(name, true)) % (1 << bits) for (name, bits), true in fields
    )


# --- NumPy ---------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(arrays: Arrays, deflated: bool = False) -> bytes:
    return make_zip([Entry(f"{n}.npy".encode(), npy(a), deflated) for n, a in arrays.items()])


def checkpoint(arrays: Arrays) -> bytes:
    record = {
        "format": 1,
        "classes": ["cat", "dog", "bird"],
        "model": {"depth": 50, "variant": "v1.5", "bn_eps": 1e-5},
        "contract": {
            "color": "RGB", "scale": 0.00392, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5],
            "resize": 32, "crop": 32, "interpolation": "bilinear", "antialias": True,
        },
    }  # fmt: skip
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    named = {f"model/{n}": from_torch(a) for n, a in arrays.items()}
    return npz({**named, "optimizer/step": np.array(3), "__record__": text})


# --- safetensors ---------------------------------------------------------------------------------

SAFETENSORS_TYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"}


def safetensors(arrays: Arrays, metadata: dict[str, str] | None = None) -> bytes:
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    numbers = b""
    for name, array in arrays.items():
        offsets = [len(numbers), len(numbers) + array.nbytes]
        kind = SAFETENSORS_TYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        numbers += array.tobytes()
    return safetensors_of(json.dumps(header).encode(), numbers)


def safetensors_of(header: bytes, numbers: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + numbers


# --- PyTorch -------------------------------------------------------------------------------------

TORCH_TYPES = {"float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long"}


def pickled(value: object) -> bytes:
    return pickle.dumps(value, 2)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _push(value: object) -> bytes:
    return pickled(value)[2:-1]


def torch_type(array: np.ndarray) -> bytes:
    return f"ctorch\n{TORCH_TYPES[array.dtype.name]}Storage\n".encode()


def torch_pickle(arrays: Arrays, view: bytes = b"") -> bytes:
    """A state dict whose tensor number i lies in storage i; `view`: what ends a persistent id."""
    tensors = b""
    for i, (name, array) in enumerate(arrays.items()):
        stride = tuple(step // array.itemsize for step in array.strides)
        storage = b"(" + text("storage") + torch_type(array) + text(str(i)) + text("cpu")
        storage += _push(array.size) + view + b"tQ"
        rest = b"K\0" + _push(array.shape) + _push(stride) + b"\x89ccollections\nOrderedDict\n)R"
        tensors += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + tensors + b"u."


def torch_zip(arrays: Arrays, state: bytes | None = None) -> bytes:
    entries = [Entry(b"a/data.pkl", torch_pickle(arrays) if state is None else state)]
    entries += [
        Entry(f"a/data/{i}".encode(), array.tobytes()) for i, array in enumerate(arrays.values())
    ]
    return make_zip([*entries, Entry(b"a/byteorder", b"little"), Entry(b"a/version", b"3\n")])


def torch_legacy(arrays: Arrays, state: bytes | None = None) -> bytes:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001})
    stream = b"".join(map(pickled, head))
    stream += torch_pickle(arrays, view=b"N") if state is None else state
    stream += pickled([str(i) for i in range(len(arrays))])
    for array in arrays.values():
        stream += struct.pack("<q", array.size) + array.tobytes()
    return stream


def torch_tar(arrays: Arrays, state: bytes | None = None) -> bytes:
    storages, tensors, named = pickled(len(arrays)), pickled(len(arrays)), b""
    for i, (name, array) in enumerate(arrays.items()):
        kind = torch_type(array)
        stride = [step // array.itemsize for step in array.strides]
        storages += b"\x80\x02(" + _push(i) + text("cpu") + kind + b"t."
        storages += struct.pack("<q", array.size) + array.tobytes()
        tensors += b"\x80\x02(" + _push(i) + _push(i) + kind.replace(b"Storage", b"Tensor") + b"t."
        tensors += struct.pack("<i4x", array.ndim)
        tensors += np.array([*array.shape, *stride, 0], "<i8").tobytes()
        named += text(name) + text(str(i)) + b"Q"
    members = {
        "sys_info": pickled({"little_endian": True}),
        "storages": storages + pickled([]),
        "tensors": tensors,
        "pickle": b"\x80\x02}(" + named + b"u." if state is None else state,
    }
    return make_tar(members)


def make_tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


# --- Keras ---------------------------------------------------------------------------------------

LEAVES = {
    "conv1_conv": {"kernel": (3, 2, 3, 2), "bias": (2,)},
    "conv1_bn": {"gamma": (2,), "beta": (2,), "moving_mean": (2,), "moving_variance": (2,)},
    "predictions": {"kernel": (2, 3), "bias": (3,)},
}


def _values(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def keras_legacy(nested_in: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        root = file if nested_in is None else file.create_group(nested_in)
        root.attrs["layer_names"] = [name.encode() for name in LEAVES]
        root.attrs["keras_version"] = "2.4.0"
        for layer, leaves in LEAVES.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{leaf}:0".encode() for leaf in leaves]
            for leaf, shape in leaves.items():
                group[f"{layer}/{leaf}:0"] = _values(shape)
    return buffer.getvalue()


def keras_weights(chunked: bool = False) -> bytes:
    buffer = io.BytesIO()
    classes = {"conv1_conv": "conv2d", "conv1_bn": "batch_normalization", "predictions": "dense"}
    options = {"chunks": True, "compression": "gzip"} if chunked else {}
    with h5py.File(buffer, "w") as file:
        for layer, leaves in LEAVES.items():
            group = file.create_group(f"layers/{classes[layer]}/vars")
            group.attrs["name"] = layer
            for i, shape in enumerate(leaves.values()):
                group.create_dataset(str(i), data=_values(shape), **options)
    return buffer.getvalue()


def keras_zip() -> bytes:
    config = {
        "module": "keras",
        "class_name": "Functional",
        "config": {
            "name": "resnet50",
            "layers": [
                {
                    "module": "keras.layers",
                    "class_name": "BatchNormalization",
                    "config": {"name": "conv1_bn", "epsilon": 1.001e-5, "momentum": 0.99},
                }
            ],
        },
    }
    metadata = {"keras_version": "3.15.0", "date_saved": "2026-01-01@00:00:00"}
    return make_zip(
        [
            Entry(b"metadata.json", json.dumps(metadata).encode()),
            Entry(b"config.json", json.dumps(config).encode()),
            Entry(b"model.weights.h5", keras_weights()),
        ]
    )


# --- Hugging Face --------------------------------------------------------------------------------

HUGGING_FACE = {
    "conv1": "resnet.embedder.embedder.convolution",
    "bn1": "resnet.embedder.embedder.normalization",
    "fc": "classifier.1",
}


def hugging_face() -> dict[str, bytes]:
    """The files of a folder."""
    named = {
        f"{HUGGING_FACE[name.partition('.')[0]]}.{name.partition('.')[2]}": array
        for name, array in network().items()
    }
    config = {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "depths": [0, 0, 0, 0],
        "embedding_size": 2,
        "hidden_sizes": [],
        "layer_type": "basic",
        "downsample_in_bottleneck": False,
        "hidden_act": "relu",
        "num_channels": 3,
        "id2label": {"0": "cat", "1": "dog", "2": "bird"},
        "label2id": {"cat": 0, "dog": 1, "bird": 2},
    }
    processor = {
        "crop_pct": 0.875,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "image_processor_type": "ConvNextImageProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 224},
    }
    return {
        "config.json": json.dumps(config, indent=2).encode(),
        "preprocessor_config.json": json.dumps(processor, indent=2).encode(),
        "model.safetensors": safetensors(named, {"format": "pt"}),
    }
