"""The first layout of PyTorch's files (0.1): a tar archive of four members.

    sys_info   about the machine that wrote it
    storages   pickled count; for each storage: pickled (key, location, type), int64 count, numbers;
               then a pickled list of views (key, key of the whole, start, count)
    tensors    pickled count; for each tensor: pickled (key, storage key, type), int32 rank,
               4 bytes of padding, int64 sizes, int64 strides, int64 offset
    pickle     the object, whose persistent ids are keys of tensors, as text

`resnet50-19c8e357.pth`, which is still in many caches, is one.
"""

from typing import Any

from resnet_np.weights.formats.torch_pickle import Stream, load
from resnet_np.weights.formats.torch_stand_ins import Storage, StorageType, StoredTensor
from resnet_np.weights.formats.torch_state import MAX_RANK, Buffers, StateDict, find_state_dict

BLOCK, RECORD = 512, 10240
MAX_COUNT = 20_000


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar archive."""
    return head[257:262] == b"ustar"


def read(stream: Stream) -> tuple[StateDict, Buffers]:
    """Raises ValueError, naming the member, for everything that is not as above."""
    members = _members(stream)
    for name in ("storages", "tensors", "pickle"):
        if name not in members:
            raise ValueError(f"a tar archive, but none of torch.save: it has no member {name!r}")
    buffers: Buffers = {}
    place = "storages"
    try:
        storages = _read_storages(_member(stream, *members[place]), buffers)
        place = "tensors"
        tensors = _read_tensors(_member(stream, *members[place]), storages)
        place = "pickle"
        pickled = _member(stream, *members[place])
        saved = load(pickled, lambda saved_id: _find_tensor(tensors, saved_id), pickled.end)
    except ValueError as error:
        raise ValueError(f"member {place!r}: {error}") from error
    return find_state_dict(saved), buffers


def _members(stream: Stream) -> dict[str, tuple[int, int]]:
    """{name: (first byte, end)}. Python's tarfile wrote these files, in whole records."""
    members: dict[str, tuple[int, int]] = {}
    if stream.end % RECORD:
        raise ValueError("a tar archive cut short: it does not end on a whole record")
    while header := stream.read(BLOCK).rstrip(b"\0"):
        start = stream.tell()
        size = _octal(header[124:136])
        # Signed like any other number of the header, its own eight bytes read as spaces.
        if _octal(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise ValueError(f"byte {start - BLOCK}: a damaged header in a tar archive")
        if header[156:157] in (b"0", b""):  # a file; others only describe the next one
            name = header[:100].rstrip(b"\0").decode("latin-1")
            if name in members:
                raise ValueError(f"a tar archive with two members {name!r}")
            members[name] = (start, start + size)
        stream.skip(-(-size // BLOCK) * BLOCK)
    if stream.left() < BLOCK:
        raise ValueError("a tar archive cut short: its end mark is missing")
    return members


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits.isdigit():
        raise ValueError("a tar archive with a number that is not octal")
    return int(digits, 8)


def _member(stream: Stream, start: int, end: int) -> Stream:
    stream.file.seek(start)
    return Stream(stream.file, end)


def _count(stream: Stream) -> int:
    count = load(stream)
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise ValueError("it begins with no sensible count")
    return count


def _read_storages(stream: Stream, buffers: Buffers) -> dict[int, Storage]:
    storages: dict[int, Storage] = {}
    for _ in range(_count(stream)):
        match load(stream):
            case (int() as key, str(), StorageType(dtype)) if key not in storages:
                count = int(stream.numbers("int64", 1)[0])
                stored = "uint16" if dtype == "bfloat16" else dtype
                buffers[key] = stream.numbers(stored, count)
                storages[key] = Storage(key, dtype, count)
            case _:
                raise ValueError(f"byte {stream.tell()}: a storage has a key, a place and a type")
    views = load(stream)
    for view in views if isinstance(views, list) else ():
        match view:
            case (int() as key, int() as whole_key, int() as start, int() as count) if (
                key not in storages and whole_key in storages
            ):
                whole = storages[whole_key]
                if not 0 <= start <= start + count <= whole.count:
                    raise ValueError("a view reaches out of its storage")
                storages[key] = Storage(whole.key, whole.dtype, count, whole.start + start)
            case _:
                raise ValueError("a view has a key, the key of the whole, a start and a count")
    return storages


def _read_tensors(stream: Stream, storages: dict[int, Storage]) -> dict[int, StoredTensor]:
    tensors: dict[int, StoredTensor] = {}
    for _ in range(_count(stream)):
        match load(stream):
            case (int() as key, int() as storage_key, _) if storage_key in storages:
                pass
            case _:
                raise ValueError(f"byte {stream.tell()}: a tensor has a key, a storage and a type")
        rank = int(stream.numbers("int32", 1)[0])
        if not 0 <= rank <= MAX_RANK:
            raise ValueError(f"byte {stream.tell()}: a tensor of rank {rank}")
        stream.skip(4)
        size = tuple(stream.numbers("int64", rank).tolist())
        stride = tuple(stream.numbers("int64", rank).tolist())
        offset = int(stream.numbers("int64", 1)[0])
        tensors[key] = StoredTensor(storages[storage_key], offset, size, stride)
    return tensors


def _find_tensor(tensors: dict[int, StoredTensor], saved_id: Any) -> StoredTensor:
    if not isinstance(saved_id, str) or not saved_id.isdecimal() or len(saved_id) > 20:
        raise ValueError("refers to something that is no tensor")
    if int(saved_id) not in tensors:
        raise ValueError(f"refers to tensor {saved_id}, which is not there")
    return tensors[int(saved_id)]
