"""Owns making an empty shard: the only place that calls HDF5. Knows no manifest and no lock.

HDF5 lays the datasets out once, contiguous and early; every byte is then reserved on the disk, and the user
block says where everything lies.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from avcil.cache.row_layout import datasets
from avcil.cache.schema import CacheInfo
from avcil.cache.shard import USER_BLOCK_BYTES, pwrite_all, user_block


def allocate(path: Path, ids: Sequence[str], info: CacheInfo) -> None:
    """Make a shard for `ids` at `path` with every byte reserved on the disk and no row written.

    Raises:
        OSError: the disk is full or the file cannot be made; what was begun is left to the caller.
    """
    names = np.array([clip_id.encode("utf-8") for clip_id in ids])
    offsets = _make(path, names, info)
    with path.open("r+b") as raw:
        _reserve(raw.fileno(), path.stat().st_size)
        pwrite_all(raw.fileno(), names.tobytes(), offsets["id"])
        pwrite_all(raw.fileno(), user_block(raw, info, offsets, names), 0)
        os.fsync(raw.fileno())


def _make(path: Path, names: np.ndarray, info: CacheInfo) -> dict[str, int]:
    """Make the HDF5 file; where each dataset begins, in bytes from the file's start."""
    text = h5py.h5t.TypeID.copy(h5py.h5t.C_S1)
    text.set_size(names.dtype.itemsize)
    text.set_cset(h5py.h5t.CSET_UTF8)
    text.set_strpad(h5py.h5t.STR_NULLPAD)
    with h5py.File(path, "w", userblock_size=USER_BLOCK_BYTES) as file:
        for name, (shape, dtype) in datasets(len(names), info).items():
            _create(file, name, shape, h5py.h5t.py_create(dtype))
        _create(file, "id", names.shape, text)
        return {name: int(file[name].id.get_offset()) for name in file}


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
