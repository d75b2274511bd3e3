"""preprocessor_config.json of Hugging Face's library, from and to an input contract.

It names a class and gives its arguments. What the classes make of a photograph differs:

    ConvNext    shorter side to int(size / crop_pct), then a square of `size`; from a size of 384
                on the whole image becomes the square
    Bit, CLIP   shorter side to `size`, then a square of `crop_size`
    ViT         the whole image becomes a square of `size`

Then all of them compute (bytes * rescale_factor - image_mean) / image_std. The numbers of
`resample` are Pillow's.

Source: image_processing_convnext.py and its like in transformers.
"""

import math
import re
from dataclasses import replace
from typing import Any

from resnet_np.weights.contract import LARGEST_IMAGE, Contract

RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
STRETCHED_FROM = 384
CROPS = {"ConvNext": False, "ViT": False, "Bit": True, "CLIP": True}
"""The classes that are known, and whether they cut a square if nothing else is said."""

CLASS_KEYS = ("image_processor_type", "feature_extractor_type")
KEYS = {
    *CLASS_KEYS,
    *("do_resize", "size", "crop_pct", "do_center_crop", "crop_size", "resample"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
}
WITHOUT_EFFECT = {
    *("do_convert_rgb", "default_to_square", "processor_class", "_valid_processor_keys"),
    *("return_tensors", "data_format", "input_data_format", "device", "disable_grouping"),
}

Record = dict[str, Any]


def read_contract(record: Record) -> Contract:
    """The input contract that a preprocessor_config.json describes.

    Raises ValueError for everything that is not understood: nothing is guessed.
    """
    others = [key for key, value in record.items() if key not in KEYS | WITHOUT_EFFECT and value]
    if others:
        raise ValueError(f"what {others[0]!r} does is not known here")
    kind = _kind(record)
    if not _flag(record, "do_resize", True):
        raise ValueError("do_resize is false, where a network needs images of one size")
    size = _convnext_size(record) if kind == "ConvNext" else _size(record, CROPS[kind])
    resample = _integer("resample", record.get("resample"))
    if resample >= len(RESAMPLE):
        raise ValueError(f"resample is {resample}, and Pillow has 0 to {len(RESAMPLE) - 1}")
    normalised = _flag(record, "do_normalize", True)
    return Contract(
        scale=_number("rescale_factor", record.get("rescale_factor", 1 / 255))
        if _flag(record, "do_rescale", True)
        else 1.0,
        mean=_three(record, "image_mean") if normalised else (0.0, 0.0, 0.0),
        std=_three(record, "image_std") if normalised else (1.0, 1.0, 1.0),
        interpolation=RESAMPLE[resample],
        corner="down",
        **size,
    )


def write_contract(contract: Contract) -> tuple[Record, list[str]]:
    """The preprocessor_config.json for a contract in RGB, and what it cannot say, in sentences."""
    square = {"height": contract.crop, "width": contract.crop}
    crops = contract.fit == "crop"
    record = {
        "image_processor_type": "BitImageProcessor" if crops else "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": contract.resize} if crops else square,
        "resample": RESAMPLE.index(contract.interpolation),
        "do_center_crop": crops,
        **({"crop_size": square} if crops else {}),
        "do_rescale": True,
        "rescale_factor": contract.scale,
        "do_normalize": True,
        "image_mean": list(contract.mean),
        "image_std": list(contract.std),
    }
    notes = []
    if crops and contract.corner == "nearest":
        notes.append(
            "transformers cuts the middle of an image rounded down, where torchvision takes the"
            " nearest pixel: on some images one pixel further up or left"
        )
    if not contract.antialias and contract.interpolation != "nearest":
        notes.append("transformers resizes with antialiasing, these weights were trained without")
    return record, notes


def as_transformers_has_it(contract: Contract) -> Contract:
    """What is left of a contract in RGB once it went through preprocessor_config.json."""
    if contract.fit == "stretch":
        contract = replace(contract, resize=contract.crop)
    return replace(contract, corner="down", antialias=True)


def _kind(record: Record) -> str:
    named = next((record[key] for key in CLASS_KEYS if record.get(key) is not None), None)
    kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(named))
    if kind not in CROPS:
        raise ValueError(f"image_processor_type {named!r} is none of {', '.join(CROPS)}")
    return kind


def _convnext_size(record: Record) -> Record:
    size = _edge("size", record.get("size"), "shortest_edge")
    if _flag(record, "do_center_crop", False):
        raise ValueError("do_center_crop is true, which ConvNext's class does not have")
    if size >= STRETCHED_FROM:
        return {"fit": "stretch", "resize": size, "crop": size}
    share = _number("crop_pct", record.get("crop_pct", 224 / 256))
    if not 1 / LARGEST_IMAGE < share <= 1:
        raise ValueError(f"crop_pct is {share}, not a share of an image")
    return {"resize": int(size / share), "crop": size}


def _size(record: Record, crops: bool) -> Record:
    crops = _flag(record, "do_center_crop", crops)
    crop = _edge("crop_size", record.get("crop_size"), "height", "width") if crops else None
    size = record.get("size")
    if (isinstance(size, dict) and "shortest_edge" in size) or (isinstance(size, int) and crops):
        if crop is None:
            raise ValueError("no square is cut, so that images have different sizes")
        return {"resize": _edge("size", size, "shortest_edge"), "crop": crop}
    stretched = _edge("size", size, "height", "width")
    if crop not in (None, stretched):
        raise ValueError("the image is stretched to a square, and a smaller one cut from that")
    return {"fit": "stretch", "resize": stretched, "crop": stretched}


def _edge(key: str, value: Any, *sides: str) -> int:
    """A number of pixels, by itself or as {"shortest_edge": n} or {"height": n, "width": n}."""
    if isinstance(value, dict):
        given = {side: n for side, n in value.items() if n is not None}
        if set(given) != set(sides) or len(set(map(str, given.values()))) > 1:
            raise ValueError(f"{key} is {value!r}, where one number for {sides} is due")
        value = given[sides[0]]
    return _integer(key, value)


def _integer(key: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_IMAGE:
        raise ValueError(f"{key} is {value!r}, not a number from 0 to {LARGEST_IMAGE}")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, not a number")
    if not abs(value) < math.inf or abs(value) > 1e30:
        raise ValueError(f"{key} is too large")
    return float(value)


def _three(record: Record, key: str) -> tuple[float, ...]:
    value = record.get(key)
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{key} is {value!r}, where three numbers are due")
    return tuple(_number(key, number) for number in value)


def _flag(record: Record, key: str, default: bool) -> bool:
    value = record.get(key)
    if value is not None and type(value) is not bool:
        raise ValueError(f"{key} is {value!r}, neither true nor false")
    return default if value is None else value
