"""What the tensors of a network do not show, as the text that goes along with them in a file.

Each format has a place where other programs ignore a text: an entry of its own in a zip, the
metadata of a .safetensors file, an attribute in HDF5, a property of an ONNX model. The files that
are written here carry this there, under the name KEY:

    {"variant": "v1.5", "bn_eps": 1e-05, "contract": {...}, "classes": ["cat", "dog"]}
"""

import json

from resnet_np.errors import UserError
from resnet_np.weights.contract import LARGEST_IMAGE, Contract
from resnet_np.weights.file import Found, WeightFile
from resnet_np.weights.formats.json_text import load_json

KEY = "resnet_np"
FIELDS = {"variant", "bn_eps", "contract", "classes"}
MAX_TEXT = 1 << 20
"""Characters. The names of ImageNet's 21,841 classes take half of this."""


def to_text(file: WeightFile) -> str:
    """The facts about a file as JSON. Raises UserError if it is longer than `take_text` takes."""
    text = json.dumps(
        {
            "variant": file.variant,
            "bn_eps": file.bn_eps,
            "contract": file.contract.to_record(),
            "classes": None if file.classes is None else list(file.classes),
        }
    )
    if len(text) > MAX_TEXT:
        raise UserError(
            f"{file.path}: its class names take too much room to go along: {len(text)} letters,"
            f" where {MAX_TEXT} are read again"
        )
    return text


def take_text(found: Found, text: str | bytes) -> None:
    """Put what `to_text` wrote into what a reader found; a text that is none is a problem there."""
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"it is longer than {MAX_TEXT}")
        record = load_json(text.encode() if isinstance(text, str) else text)
        if not isinstance(record, dict) or set(record) != FIELDS:
            raise ValueError(f"it has not the fields {sorted(FIELDS)}")
        found.variant = check_variant(record["variant"])
        found.bn_eps = check_eps(record["bn_eps"])
        found.contract = Contract.from_record(record["contract"])
        found.says_contract = True
        found.classes = check_classes(record["classes"])
    except (ValueError, TypeError) as error:
        found.problems.append(f"its text {KEY!r} is damaged ({error})")


def check_variant(value: object) -> str | None:
    """A variant, or None. Raises ValueError for anything else."""
    if value is not None and value not in ("v1", "v1.5"):
        raise ValueError("variant is neither v1 nor v1.5")
    return value


def check_eps(value: object) -> float | None:
    """An epsilon of batch norm, or None. Raises ValueError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("bn_eps is no number")
    if not 0 < value <= 1:  # the largest in use is 1e-3
        raise ValueError("bn_eps is not between 0 and 1")
    return float(value)


def check_classes(value: object) -> tuple[str, ...] | None:
    """Class names, or None. Raises ValueError for anything else."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("classes is no list of texts")
    return tuple(value)


def check_size(value: object, contract: Contract) -> None:
    """Raises ValueError if it is neither None nor a size of images that a contract can be for."""
    if value is None:
        return
    if type(value) is not int or not 0 < value <= LARGEST_IMAGE:
        raise ValueError("image_size is no number of pixels")
    contract.with_size(value)
