"""What classes are called that a folder or a table only numbers, from a file of names."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_np.errors import UserError, some
from resnet_np.weights.formats.json_text import load_json

WORDNET_ID = r"n[0-9]{8}"  # ImageNet's classes are nouns of WordNet, by their offset in its file
SYNSET_LINE = re.compile(rf"({WORDNET_ID})[ \t:]+([^,\s][^,]*)")


@dataclass(frozen=True)
class ClassNames:
    """Names of classes by their WordNet identifier, where they have one, and by their index."""

    path: Path
    by_index: tuple[str, ...]
    by_key: dict[str, str]

    def readable(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The names of classes that are called "n01440764" or "0".

        Two that have the same name (a crane is a bird and a machine) get what they were called
        behind it. Raises UserError for classes that the file does not know.
        """
        unknown = [name for name in classes if name not in self.by_key]
        if unknown:
            raise UserError(f"{self.path}: has no name for {some(unknown)}; add it, or name "
                            "another file")  # fmt: skip
        names = [self.by_key[name] for name in classes]
        # Of all, so that no name depends on who else is there; and a class may be here twice.
        count = Counter(self.by_index) | Counter(names)
        return tuple(
            name if count[name] == 1 else f"{name} ({key})"
            for name, key in zip(names, classes, strict=True)
        )


def read_class_names(path: str | os.PathLike[str]) -> ClassNames:
    """Read a file that gives each index, 0 and up, a name. Known are, told apart by content:

    - `LOC_synset_mapping.txt` of the ImageNet challenge: `n01440764 tench, Tinca tinca` in line 1
      for index 0, with or without a colon behind the identifier. The first of the names is taken.
    - `imagenet_class_index.json` of Keras: `{"0": ["n01440764", "tench"], ...}`. An underscore in a
      name is a space.
    - `{"0": "tench", ...}`, and a text with one name in each line.

    Raises UserError, naming the file, and the line or the index, for anything else.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no list of class names: it is not in UTF-8") from error
    pairs = _from_json(path, text) if text.lstrip().startswith("{") else _from_lines(path, text)
    by_key = {str(index): name for index, (_, name) in enumerate(pairs)}
    by_key |= {key: name for key, name in pairs if key}
    return ClassNames(path, tuple(name for _, name in pairs), by_key)


def _from_json(path: Path, text: str) -> list[tuple[str, str]]:
    """(identifier or "", name) of each index."""
    try:
        record = load_json(text.encode())
    except ValueError as error:
        raise UserError(f"{path}: no list of class names: not JSON ({error})") from error
    pairs = []
    for index in range(len(record)):
        match record.get(str(index)):
            case [str() as key, str() as name] if re.fullmatch(WORDNET_ID, key) and name.strip():
                pairs.append((key, name.replace("_", " ").strip()))
            case str() as name if name.strip():
                pairs.append(("", name.strip()))
            case _:
                raise UserError(
                    f"{path}: no name under {str(index)!r}; {len(record)} classes are numbered from"
                    f' 0 to {len(record) - 1}, each as "name" or ["n01440764", "name"]'
                )
    return pairs


def _from_lines(path: Path, text: str) -> list[tuple[str, str]]:
    """(identifier or "", name) of each line."""
    lines = text.rstrip().splitlines()
    if not lines:
        raise UserError(f"{path}: no class names in it; expected one in each line")
    with_identifiers = SYNSET_LINE.match(lines[0]) is not None
    pairs = []
    for number, line in enumerate(lines, start=1):
        synset = SYNSET_LINE.match(line)
        if not line.strip() or (synset is not None) != with_identifiers:
            wanted = "'n01440764 tench' as in line 1" if with_identifiers else "a name"
            raise UserError(f"{path}, line {number}: expected {wanted}, not {line[:80]!r}")
        pairs.append((synset[1], synset[2].strip()) if synset else ("", line.strip()))
    return pairs
