"""Owns the layout of one shard, an HDF5 file. Knows no manifest, no lock and no order of writing.

A shard holds contiguous datasets, allocated whole before the first row: `visual [n, T*S, D]`, where that is
int8 also `visual_scale [n, T*S]`, `audio [n, D]`, `id [n]` (UTF-8, padded with NUL) and `crc32 [n]`. HDF5
lays the file out once; from then on rows are bytes at known places in it, so no later write can touch the
file's structure.

The checksum of a row covers the bytes of its id and of its parts, in the order of `PARTS`. 0 says "not
written": a checksum that happens to be 0 is stored as 1.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from avcil.cache.quantise import SCALE_DTYPE
from avcil.cache.schema import CacheInfo
from avcil.errors import CacheError

CRC_DTYPE = np.dtype("<u4")
PARTS = ("visual", "visual_scale", "audio")  # of a row, in the order of its checksum


@dataclass(frozen=True)
class Shard:
    """Where the rows of one shard lie: `offsets` in bytes from the file's start, by dataset."""

    path: Path
    ids: tuple[str, ...]
    offsets: Mapping[str, int]

    def read_crcs(self) -> np.ndarray:
        """The stored checksums, [n] uint32; 0 where a row is not written."""
        offset = self.offsets["crc32"]
        return np.fromfile(self.path, CRC_DTYPE, count=len(self.ids), offset=offset)


def row_crc(clip_id: str, *parts: np.ndarray) -> int:
    """The checksum stored for a row; `parts` in the order of `PARTS`, contiguous, as on disk."""
    crc = zlib.crc32(clip_id.encode("utf-8"))
    for part in parts:
        crc = zlib.crc32(part.data, crc)
    return crc or 1


def pwrite_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`: one call may write less than it was given."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def allocate(path: Path, ids: Sequence[str], info: CacheInfo) -> None:
    """Make a shard for `ids` at `path` with every byte reserved on the disk and no row written.

    Raises:
        OSError: the disk is full or the file cannot be made; what was begun is left to the caller.
    """
    names = np.array([clip_id.encode("utf-8") for clip_id in ids])
    with h5py.File(path, "w") as file:
        for name, (shape, dtype) in _datasets(len(ids), info).items():
            kind = h5py.h5t.py_create(dtype)
            _create(file, name, shape, kind)
        text = h5py.h5t.TypeID.copy(h5py.h5t.C_S1)
        text.set_size(names.dtype.itemsize)
        text.set_cset(h5py.h5t.CSET_UTF8)
        text.set_strpad(h5py.h5t.STR_NULLPAD)
        _create(file, "id", (len(ids),), text)
        id_offset = file["id"].id.get_offset()
    with path.open("r+b") as raw:
        _reserve(raw.fileno(), path.stat().st_size)
        pwrite_all(raw.fileno(), names.tobytes(), id_offset)
        os.fsync(raw.fileno())


def open_shard(path: Path, info: CacheInfo) -> Shard:
    """Check that `path` is a whole shard of a cache like `info` and say where its rows lie.

    Raises:
        CacheError: not HDF5, cut short, or its datasets are not those that `info` asks for.
    """
    try:
        size = path.stat().st_size
        with h5py.File(path, "r") as file:
            n = len(file["crc32"])
            wanted: dict[str, tuple[tuple[int, ...], Any]] = _datasets(n, info)
            wanted["id"] = ((n,), file["id"].dtype)
            offsets = {}
            for name, (shape, dtype) in wanted.items():
                dataset = file[name]
                if dataset.shape != shape or dataset.dtype != dtype:
                    found = f"{list(dataset.shape)} {dataset.dtype}"
                    raise CacheError(f"{path}: {name} is {found}, expected {list(shape)} {dtype}")
                offset = dataset.id.get_offset()
                if offset is None:
                    raise CacheError(f"{path}: {name} is not stored as one contiguous stretch")
                if offset + dataset.id.get_storage_size() > size:
                    raise CacheError(f"{path} is cut short: {name} ends beyond its {size} bytes")
                offsets[name] = int(offset)
            ids = tuple(value.decode("utf-8") for value in file["id"][:].tolist())
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} is damaged or not a shard: {error}") from error
    return Shard(path, ids, offsets)


def _datasets(n: int, info: CacheInfo) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    time, space, width = info.visual.shape
    scale = {} if info.visual.scale_shape is None else {"visual_scale": ((n, time * space), SCALE_DTYPE)}
    return {
        "crc32": ((n,), CRC_DTYPE),  # first: there HDF5 aligns it, so that no checksum lies across two pages
        "audio": ((n, *info.audio.shape), info.audio.numpy_dtype),
        **scale,
        "visual": ((n, time * space, width), info.visual.numpy_dtype),
    }


def _create(file: h5py.File, name: str, shape: tuple[int, ...], kind: h5py.h5t.TypeID) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # else it has no offset before its first write
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # fresh bytes of a file are 0 already
    plan.set_obj_track_times(False)  # the same clips make the same bytes
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan)


def _reserve(fd: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size_bytes)
        return
    with os.fdopen(fd, "r+b", closefd=False) as file:  # macOS: only bytes that are written are reserved
        file.seek(0)
        while chunk := file.read(1 << 20):
            file.seek(-len(chunk), os.SEEK_CUR)
            file.write(chunk)
