"""Shards: made empty with HDF5, and their rows found without it, as HDF5 trusts a damaged file.

A shard is an HDF5 file of contiguous datasets, allocated whole before the first row: from then on a row is
bytes at known places, and neither writing nor reading touches the file's structure. The 2048 bytes before the
HDF5 content, its user block, are a JSON object with a checksum: the number of rows, where every dataset lies,
the size of the file and a CRC-32 of all that lies between the datasets of the rows. A shard that passes these
checks is, but for its rows, the file that was made.
"""

import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from avcil.cache.checked_json import decode_checked, encode_checked
from avcil.cache.row import Layout, parts
from avcil.cache.schema import MAX_ID_BYTES, CacheInfo
from avcil.errors import CacheError
from avcil.files import reason
from avcil.tables import from_table

FORMAT = "avcil-shard"
USER_BLOCK_BYTES = 2048
CRC_DTYPE = np.dtype("<u4")
_NAME = re.compile(r"shard-(\d{5,9})\.h5")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """Where the rows of one shard lie: `offsets` in bytes from the file's start, by dataset."""

    path: Path
    ids: tuple[str, ...]
    offsets: Mapping[str, int]
    size_bytes: int

    def read_crcs(self, name: str = "crc32") -> np.ndarray:
        """The stored checksums, [n] uint32; of `crc32`, 0 where a row is not written."""
        return np.fromfile(self.path, CRC_DTYPE, count=len(self.ids), offset=self.offsets[name])


@dataclass(frozen=True)
class _UserBlock:
    """The members of a user block, see `docs/cache-format.md`."""

    identity: str
    rows: int
    id_bytes: int
    size_bytes: int
    offsets: dict[str, int]
    structure_crc32: str

    def __post_init__(self) -> None:
        if self.rows < 1 or not 1 <= self.id_bytes <= MAX_ID_BYTES:
            raise CacheError(
                f"{self.rows} rows with ids of {self.id_bytes} bytes: expected 1 row or more, with ids of 1 "
                f"to {MAX_ID_BYTES} bytes"
            )


def shard_path(folder: Path, number: int) -> Path:
    """The file of shard `number`."""
    return folder / f"shard-{number:05d}.h5"


def shard_paths(folder: Path) -> dict[int, Path]:
    """The shards of a cache by their number, in its order."""
    found = {int(name[1]): path for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def pwrite_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`: one call may write less than it was given."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def datasets(n: int, info: CacheInfo) -> Layout:
    """The datasets that hold `n` rows in a shard, all but the ids; T and S are one axis."""
    time, space, _ = info.visual.shape
    stored: Layout = {
        "crc32": ((n,), CRC_DTYPE),  # first: there HDF5 aligns it, so that no checksum lies across two pages
        "audio_crc32": ((n,), CRC_DTYPE),
    }
    for name, (shape, dtype) in reversed(parts(info).items()):
        flat = (time * space, *shape[2:]) if name.startswith("visual") else shape
        stored[name] = (n, *flat), dtype
    return stored


def create_shard(path: Path, ids: Sequence[str], info: CacheInfo) -> None:
    """Make a shard for `ids` at `path` with every byte reserved on the disk and no row written.

    Raises:
        OSError: the disk is full or the file cannot be made; what was begun is left to the caller. Of HDF5's
            own calls also `RuntimeError`.
    """
    names = np.array([clip_id.encode("utf-8") for clip_id in ids])
    offsets = _create_datasets(path, names, info)
    with path.open("r+b") as raw:
        _reserve(raw.fileno(), path.stat().st_size)
        pwrite_all(raw.fileno(), names.tobytes(), offsets["id"])
        pwrite_all(raw.fileno(), _user_block(raw, info, offsets, names), 0)
        os.fsync(raw.fileno())


def _create_datasets(path: Path, names: np.ndarray, info: CacheInfo) -> dict[str, int]:
    """Make the HDF5 file; where each dataset begins, in bytes from the file's start."""
    import h5py  # only here: reading needs none, and it takes long to import

    text = h5py.h5t.TypeID.copy(h5py.h5t.C_S1)
    text.set_size(names.dtype.itemsize)
    text.set_cset(h5py.h5t.CSET_UTF8)
    text.set_strpad(h5py.h5t.STR_NULLPAD)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # else it has no offset before its first write
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # fresh bytes of a file are 0 already
    plan.set_obj_track_times(False)  # the same clips make the same bytes
    rows = datasets(len(names), info)
    with h5py.File(path, "w", userblock_size=USER_BLOCK_BYTES) as file:
        for name, (shape, dtype) in {**rows, "id": (names.shape, text)}.items():
            kind = dtype if name == "id" else h5py.h5t.py_create(dtype)
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan)
        return {name: int(file[name].id.get_offset()) for name in file}


def _reserve(fd: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size_bytes)
        return
    with os.fdopen(fd, "r+b", closefd=False) as file:  # macOS: only bytes that are written are reserved
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            file.seek(-len(chunk), os.SEEK_CUR)
            file.write(chunk)


def _user_block(file: BinaryIO, info: CacheInfo, offsets: Mapping[str, int], ids: np.ndarray) -> bytes:
    """The user block of a finished, still empty shard; `ids` [n] bytes."""
    size = os.fstat(file.fileno()).st_size
    crc = _structure_crc(file, offsets, datasets(len(ids), info), size)
    block = _UserBlock(info.identity, len(ids), ids.dtype.itemsize, size, dict(offsets), crc)
    return encode_checked(FORMAT, asdict(block), USER_BLOCK_BYTES)


def open_shard(path: Path, info: CacheInfo) -> Shard:
    """Check that `path` is a complete shard of a cache like `info` and find where its rows lie.

    Raises:
        CacheError: not a shard, cut short, changed, of another version, or of other tokens than `info` says.
    """
    try:
        with path.open("rb") as file:
            return _open(path, file, info)
    except CacheError as error:
        remedy = "move it away and extract again, which makes its clips anew"
        raise CacheError(f"{path} cannot be used: {error}; {remedy}") from error
    except OSError as error:
        raise CacheError(f"cannot read {path}: {reason(error)}") from error


def _open(path: Path, file: BinaryIO, info: CacheInfo) -> Shard:
    size = os.fstat(file.fileno()).st_size
    block = file.read(USER_BLOCK_BYTES)
    if block[:8] == b"\x89HDF\r\n\x1a\n":
        raise CacheError("it has no user block: no cache writer of this version made it")
    content = decode_checked(block, FORMAT)
    stored = from_table(_UserBlock, content, CacheError, where="its user block")
    rows = datasets(stored.rows, info)
    ids_in_file = {"id": ((stored.rows,), np.dtype(("S", stored.id_bytes)))}
    _check_places(stored.offsets, {**rows, **ids_in_file}, stored.size_bytes)
    if stored.identity != info.identity:
        raise CacheError(f"it holds tokens {stored.identity[:12]}, this cache tokens {info.identity[:12]}")
    if size != stored.size_bytes:
        verb = "is cut short" if size < stored.size_bytes else "has grown"
        raise CacheError(f"it {verb}: it was made with {stored.size_bytes} bytes and has {size}")
    if _structure_crc(file, stored.offsets, rows, size) != stored.structure_crc32:
        raise CacheError("its HDF5 structure or its ids do not match their checksum: the file is damaged")
    file.seek(stored.offsets["id"])
    ids = _ids(file.read(stored.rows * stored.id_bytes), stored.id_bytes)
    return Shard(path, ids, stored.offsets, size)


def _check_places(offsets: Mapping[str, int], expected: Mapping[str, Any], size: int) -> None:
    """Refuse places outside the file: a map beyond its end would end the process."""
    if offsets.keys() != expected.keys():
        raise CacheError(f"it has datasets {sorted(offsets)}, expected {sorted(expected)}")
    end = USER_BLOCK_BYTES
    for name, offset in sorted(offsets.items(), key=lambda place: place[1]):
        shape, dtype = expected[name]
        if offset < end:
            raise CacheError(f"its dataset {name} begins at {offset}, before byte {end}")
        end = offset + prod(shape) * dtype.itemsize
    if end > size:
        raise CacheError(f"its datasets end at byte {end} of {size}")


def _structure_crc(file: BinaryIO, offsets: Mapping[str, int], rows: Mapping[str, Any], size: int) -> str:
    """CRC-32 of all bytes after the user block that are in none of the datasets `rows`."""
    crc = 0
    for start, end in _gaps(offsets, rows, size):
        file.seek(start)
        while start < end:
            chunk = file.read(min(_CHUNK_BYTES, end - start))
            if not chunk:
                raise CacheError("it is cut short")
            crc, start = zlib.crc32(chunk, crc), start + len(chunk)
    return f"{crc:08x}"


def _gaps(offsets: Mapping[str, int], rows: Mapping[str, Any], size: int) -> Iterator[tuple[int, int]]:
    start = USER_BLOCK_BYTES
    for name in sorted(rows, key=offsets.__getitem__):
        shape, dtype = rows[name]
        yield start, offsets[name]
        start = offsets[name] + prod(shape) * dtype.itemsize
    yield start, size


def _ids(data: bytes, id_bytes: int) -> tuple[str, ...]:
    stored = [data[start : start + id_bytes] for start in range(0, len(data), id_bytes)]
    try:
        return tuple(one.rstrip(b"\0").decode("utf-8") for one in stored)
    except UnicodeDecodeError as error:
        raise CacheError(f"an id is not UTF-8: {error}") from error
