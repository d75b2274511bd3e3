"""The program that hdf5.py runs to parse an HDF5 file: file in, texts and raw numbers out.

HDF5 is a large library in C, and a file made for it can crash it. So it runs in a process of its
own, which may use little memory and time and open no other file. A script and not a module: it
imports nothing of resnet_np, which would cost more than all it does.

stdin is the file, and the only argument what to do with it, as JSON (hdf5.py, `_task`). stdout:

    one newline      h5py is imported, the work begins
    a line of JSON   {"texts": {group: {attribute: text or list of texts}},
                      "skipped": [group], "arrays": [[path, type, shape]]}
    numbers          those of each array, in that order, little-endian, nothing in between

The root is the group "". Exit status 0: all of that was written. 2: stderr says what is wrong.
"""

import json
import os
import sys
import zlib
from collections.abc import Iterator
from io import SEEK_CUR, SEEK_END, SEEK_SET, BytesIO, RawIOBase
from typing import Any, BinaryIO

MEMORY = 64 << 20
PIECE = 4 << 20
"""Tensors are sent in pieces of so many bytes at most."""
DEPTH = 32
NAME = 1000
OBJECTS = 10_000
RANK = 16
LINE = 4 << 20
"""The most bytes that the line of JSON may have."""
GZIP, SHUFFLE, FLETCHER32 = 1, 2, 3


class RefusedError(Exception):
    """Something that no file of weights holds; the text is for the user."""


class Window(RawIOBase):
    """A part of a file as a file: an entry that lies in a zip as it is."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size, self.position = file, start, size, 0

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        base = {SEEK_SET: 0, SEEK_CUR: self.position, SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not 0 <= self.position < self.size:  # a damaged file may ask for any place
            return 0
        view = view[: self.size - self.position]
        self.file.seek(self.start + self.position)
        count = 0
        fill = self.file.readinto  # type: ignore[attr-defined]
        while count < len(view) and (read := fill(view[count:])):
            count += read
        self.position += count
        return count


def main() -> None:
    task = json.loads(sys.argv[1])
    sys.path += task["path"]
    import encodings.ascii  # noqa: F401  (h5py would want it when no file can be opened any more)

    import h5py  # noqa: F401

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no part of what is sent
    out.write(b"\n")
    out.flush()
    with open(0, "rb", buffering=0, closefd=False) as file:
        shut_in(task)
        try:
            send(open_part(file, task), task, out)
        except RefusedError as refusal:
            leave(str(refusal))
        except Exception as error:  # whatever it is, the file is the reason
            text = str(error) or type(error).__name__
            leave(f"not a readable HDF5 file, or one cut short ({text})")


def leave(reason: str) -> None:
    sys.stderr.buffer.write(reason.encode(errors="backslashreplace"))
    sys.stderr.flush()
    os._exit(2)  # without closing the file, in which the library might stumble once more


def shut_in(task: dict[str, Any]) -> None:
    """Limit what this process may use from now on, as far as the system can."""
    try:
        import resource
    except ImportError:  # Windows: what is left are the parent's deadline and its own limits
        return
    limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0, "RLIMIT_NOFILE": 0, "RLIMIT_CPU": task["cpu"]}
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        limits["RLIMIT_AS"] = used + MEMORY + task["size"] + task["inflated"]
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))


def open_part(file: BinaryIO, task: dict[str, Any]) -> RawIOBase | BytesIO:
    """The file, or the entry of a zip that is the HDF5 file; a deflated one is inflated here."""
    window = Window(file, task["start"], task["size"])
    if not task["inflated"]:
        return window
    unpack, whole, left = zlib.decompressobj(-zlib.MAX_WBITS), BytesIO(), task["inflated"]
    try:
        while left and (piece := window.read(PIECE)):
            left -= whole.write(unpack.decompress(piece, left))
    except zlib.error as error:
        raise RefusedError(f"cannot be inflated ({error})") from error
    return whole


def send(part: RawIOBase | BytesIO, task: dict[str, Any], out: BinaryIO) -> None:
    """Look at all that is in the file, and only then send it."""
    import h5py
    import numpy as np

    with h5py.File(part, "r") as file:
        walk = Walk(task)
        walk.visit(file)
        header = {"texts": walk.texts, "skipped": walk.skipped, "arrays": walk.arrays}
        line = json.dumps(header, ensure_ascii=False).encode()
        if len(line) > min(LINE, task["size"] + 65536):
            raise RefusedError("its names and texts are longer than those of any network")
        out.write(line + b"\n")
        for path, code, shape in walk.arrays:
            dtype = np.dtype("V2" if code == "bfloat16" else f"<{code}")
            for index in pieces(tuple(shape), dtype.itemsize):
                out.write(np.ascontiguousarray(file[path][index], dtype).data)
        out.flush()


def pieces(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut an array, in C order, into pieces of at most PIECE bytes."""
    axis, inner = len(shape), itemsize  # all behind this axis fits into a piece
    while axis and inner * shape[axis - 1] <= PIECE:
        axis -= 1
        inner *= shape[axis]
    if not axis:
        yield ()
        return
    import numpy as np

    step = PIECE // inner
    for outer in np.ndindex(shape[: axis - 1]):
        for start in range(0, shape[axis - 1], step):
            yield (*outer, slice(start, start + step))


class Walk:
    """All groups, texts and arrays of a file, each seen once and checked before it is read."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.skip, self.limit = task["skip"], task["limit"]
        self.texts: dict[str, dict[str, str | list[str]]] = {}
        self.skipped: list[str] = []
        self.arrays: list[tuple[str, str, tuple[int, ...]]] = []
        self.seen: set[int] = set()
        self.total = 0

    def visit(self, file: Any) -> None:
        import h5py
        from h5py import h5g, h5o

        root = h5g.open(file.id, b"/")
        self.seen.add(h5o.get_info(root).addr)
        waiting = [("", root)]
        while waiting:
            path, group = waiting.pop()
            self.texts[path] = dict(texts_of(group, path, self.limit))
            for name, kind in self.members(path, group):
                inner = f"{path}/{name}" if path else name
                if kind == h5g.GROUP:
                    waiting.append((inner, h5g.open(group, name.encode())))
                elif kind == h5g.DATASET:
                    self.add(inner, h5py.Dataset(h5py.h5d.open(group, name.encode())))
                else:
                    raise RefusedError(f"{inner!r} is neither a group nor an array")

    def members(self, path: str, group: Any) -> Iterator[tuple[str, int]]:
        """(name, kind) of what lies in a group."""
        from h5py import h5l, h5o

        if path.count("/") >= DEPTH:
            raise RefusedError(f"groups lie more than {DEPTH} deep in each other")
        for raw in group:
            name = raw.decode()
            if len(name) > NAME or not name.isprintable():
                raise RefusedError(f"a name in {path or '/'!r} is none that a layer can have")
            if not path and name in self.skip:
                self.skipped.append(name)
                continue
            if group.links.get_info(raw).type != h5l.TYPE_HARD:
                raise RefusedError(
                    f"{name!r} in {path or '/'!r} is a link to another place or file"
                )
            info = h5o.get_info(group, raw)
            if info.addr in self.seen:
                raise RefusedError(f"{name!r} in {path or '/'!r} is there under two names")
            if len(self.seen) >= OBJECTS:
                raise RefusedError(f"more than {OBJECTS} groups and arrays")
            self.seen.add(info.addr)
            yield name, info.type

    def add(self, path: str, dataset: Any) -> None:
        """Note an array after all has been checked that can be known without reading it."""
        shape, code = dataset.shape, type_of(dataset)
        if code is None:
            raise RefusedError(f"{path!r} holds numbers of a type that no weights have")
        if shape is None or len(shape) > RANK or not all(shape):
            raise RefusedError(f"{path!r} is empty, or has more than {RANK} axes")
        size = dataset.id.get_type().get_size()
        for length in shape:
            size *= length
        check_storage(path, dataset.id, size)
        self.total += size
        if self.total > self.limit:
            raise RefusedError(f"its arrays declare more bytes than it holds (up to {path!r})")
        self.arrays.append((path, code, shape))


def check_storage(path: str, dataset: Any, size: int) -> None:
    from h5py import h5d

    plan = dataset.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5d.VIRTUAL:
        raise RefusedError(f"the numbers of {path!r} lie in another file")
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not filters <= {GZIP, SHUFFLE, FLETCHER32}:
        raise RefusedError(f"{path!r} is compressed by something else than gzip")
    if GZIP not in filters and dataset.get_storage_size() < size:
        raise RefusedError(
            f"{path!r} declares {size} bytes and holds {dataset.get_storage_size()}:"
            " it was never written, or not to the end"
        )


def type_of(dataset: Any) -> str | None:
    """One of hdf5.TYPES, or None."""
    from h5py import h5t

    stored = dataset.id.get_type()
    if stored.get_class() == h5t.OPAQUE:
        named = stored.get_size() == 2 and dataset.attrs.get("dtype") == "bfloat16"
        return "bfloat16" if named else None
    standard = {"f2": "IEEE_F16", "f4": "IEEE_F32", "f8": "IEEE_F64"}
    standard |= {f"i{n}": f"STD_I{8 * n}" for n in (1, 2, 4, 8)}
    standard |= {f"u{n}": f"STD_U{8 * n}" for n in (1, 2, 4, 8)}
    for code, name in standard.items():
        if any(stored.equal(getattr(h5t, name + order)) for order in ("LE", "BE")):
            return code
    return None


def texts_of(group: Any, path: str, limit: int) -> Iterator[tuple[str, str | list[str]]]:
    """The attributes that are a text, a list of texts, or empty; the others are not looked at."""
    import h5py
    from h5py import h5a, h5t

    values = h5py.Group(group).attrs
    for index in range(h5a.get_num_attrs(group)):
        attribute = h5a.open(group, index=index)
        shape, name = attribute.shape, attribute.name.decode()
        if 0 in shape:  # an empty list has lost its type
            yield name, []
        elif attribute.get_type().get_class() == h5t.STRING:
            if len(shape) > 1 or attribute.get_storage_size() > min(limit, LINE):
                raise RefusedError(
                    f"attribute {name!r} of {path or '/'!r} is larger than any list of names"
                )
            value = values[name]
            yield name, [text(item) for item in value] if shape else text(value)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    main()
