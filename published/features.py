"""Files of features, read one clip at a time: a pickled dict of arrays, or HDF5 with a dataset per id.

Nothing that a pickle names is called, and of HDF5 only what lies in the file itself is read.
"""

from __future__ import annotations

from collections.abc import Collection
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from avcil.errors import CacheError
from avcil.files import first_line, os_errors_as
from avcil.pickled import read_pickled_arrays

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises for damaged files


class Features(Protocol):
    """The arrays of one file, by clip id. Held open until `close`; not for several threads at once."""

    path: Path
    ids: Collection[str]

    def shape(self, clip_id: str) -> tuple[int, ...]:
        """The shape of a clip's array; raises `CacheError` where it is damaged."""
        ...

    def read(self, clip_id: str) -> np.ndarray:
        """A clip's array; raises `CacheError` where it is damaged."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def open_features(path: Path) -> Features:
    """Open a file of features, its format told by its first bytes.

    Raises `CacheError`, one line: it cannot be read, is something else, is cut short, or is a pickle that
    holds anything but arrays by name.
    """
    with os_errors_as(CacheError, f"{path}: cannot be read"):
        file = path.open("rb")
    try:
        if file.read(len(_HDF5_START)) != _HDF5_START:
            file.seek(0)
            return PickledFeatures(path, file)
    except BaseException:
        file.close()
        raise
    file.close()
    return Hdf5Features(path)


class PickledFeatures:
    """`np.save(path, {id: array})`, or the same pickled bare."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        """Take over `file`, open at its start, and find its arrays."""
        self.path = path
        self._file = file
        self._arrays = read_pickled_arrays(file, path)
        self.ids: Collection[str] = self._arrays.keys()

    def shape(self, clip_id: str) -> tuple[int, ...]:
        """See `Features`."""
        return self._arrays[clip_id].shape

    def read(self, clip_id: str) -> np.ndarray:
        """See `Features`."""
        try:
            return self._arrays[clip_id].read(self._file)
        except (CacheError, OSError, ValueError) as error:
            raise CacheError(f"{self.path}: {clip_id!r}: {error}") from error

    def close(self) -> None:
        """See `Features`."""
        self._file.close()


class Hdf5Features:
    """HDF5 with a dataset per id in its root."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self.path = path
        try:
            self._file = h5py.File(path, "r")
            self.ids: Collection[str] = dict.fromkeys(self._file)
        except _DAMAGE as error:
            raise CacheError(f"{path} is damaged or cut short: {first_line(error)}") from error

    def shape(self, clip_id: str) -> tuple[int, ...]:
        """See `Features`."""
        return tuple(self._dataset(clip_id).shape or ())

    def read(self, clip_id: str) -> np.ndarray:
        """See `Features`."""
        try:
            return np.asarray(self._dataset(clip_id)[()])
        except _DAMAGE as error:
            raise CacheError(f"{self.path}: {clip_id!r}: {first_line(error)}") from error

    def close(self) -> None:
        """See `Features`."""
        self._file.close()

    def _dataset(self, clip_id: str) -> h5py.Dataset:
        """The dataset, if its numbers lie in this file: links and external storage can point anywhere."""
        try:
            inside = isinstance(self._file.get(clip_id, getlink=True), h5py.HardLink)
            item = self._file[clip_id] if inside else None
            if isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                return item
        except _DAMAGE as error:
            raise CacheError(f"{self.path}: {clip_id!r}: {first_line(error)}") from error
        raise CacheError(f"{self.path}: {clip_id!r} is no dataset of this file")
