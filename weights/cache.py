"""The folder in which published files are kept, and what it has already.

Nothing here needs a network, or anything of what downloading takes (download.py).
"""

import json
import os
from collections import Counter
from pathlib import Path

from resnet_np.errors import UserError
from resnet_np.weights.registry import Published, find, hash_file


def cache_folder() -> Path:
    """Where files are kept: what RESNET_NP_CACHE names, or the user's cache folder."""
    if named := os.environ.get("RESNET_NP_CACHE"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("resnet_np", appauthor=False))


def place(entry: Published) -> Path:
    """The path of a published file in the cache, whether or not it is there."""
    return cache_folder() / entry.file_name


def cached_class_names(entry: Published) -> tuple[str, ...] | None:
    """The class names of published weights, if the cache has their list."""
    if entry.classes is None:
        return None
    names = find(entry.classes)
    path = place(names)
    return read_names(path) if find_fault(path, names) is None else None


def read_names(path: Path) -> tuple[str, ...]:
    """The names in {"0": ["n02012849", "crane"], "1": ...}, Keras' list of ImageNet's classes.

    Names that stand for two classes (a crane is a bird and a machine) get the identifier behind
    them. Raises UserError if it is no such list.
    """
    try:
        record = json.loads(path.read_bytes())
        pairs = [record.pop(str(k)) for k in range(len(record))]
        if not all(isinstance(text, str) for pair in pairs for text in pair):
            raise ValueError("not all are texts")
        count = Counter(name for _, name in pairs)
        return tuple(name if count[name] == 1 else f"{name} ({key})" for key, name in pairs)
    except (OSError, KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a list of class names") from error


def find_fault(path: Path, entry: Published) -> str | None:
    """Why the file at this path is not the published one, or None if it is."""
    if not path.is_file():
        return "no file"
    return entry.wrong_size(path.stat().st_size) or entry.wrong(hash_file(path))
