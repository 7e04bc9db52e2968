"""Writes files in the published format: split files, pickled dicts of arrays, HDF5 with a dataset per id."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from avcil.cache import CacheClip
from avcil.extract.sources.authors import CHECK_NAME, CLIPS_NAME, LABELS_NAME
from avcil.published.layout import AUDIO_NAMES, VISUAL_NAMES

Arrays = Mapping[str, np.ndarray]


def as_numpy_1(data: bytes) -> bytes:
    """The same pickle with the names of numpy's modules before version 2."""
    for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        old = name.replace(b"_core", b"core")
        data = data.replace(b"\x8c" + bytes([len(name)]) + name, b"\x8c" + bytes([len(old)]) + old)
        data = data.replace(b"c" + name + b"\n", b"c" + old + b"\n")
    return data


def as_npy(pickled: bytes) -> bytes:
    """What `np.save` makes of a pickled object array."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    return header.getvalue() + pickled


def wrapped(value: object) -> np.ndarray:
    """The object array that `np.save` makes of a Python object."""
    array = np.empty((), object)
    array[()] = value
    return array


def write_hdf5(path: Path, arrays: Arrays) -> None:
    """One dataset per id."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_splits(folder: Path, clips: Iterable[CacheClip]) -> None:
    """The three split files; class ids follow the labels' order, and stand in descending order."""
    clips = list(clips)
    numbers = {label: i for i, label in enumerate(sorted({clip.label for clip in clips}))}
    by_class: dict[str, dict[int, list[str]]] = {}
    by_id: dict[str, dict[str, str]] = {}
    for clip in sorted(clips, key=lambda clip: -numbers[clip.label]):
        by_class.setdefault(clip.split, {}).setdefault(numbers[clip.label], []).append(clip.id)
        by_id.setdefault(clip.split, {})[clip.id] = clip.label
    for name, value in ((CLIPS_NAME, by_class), (LABELS_NAME, numbers), (CHECK_NAME, by_id)):
        np.save(folder / name, wrapped(value), allow_pickle=True)


def write_released(folder: Path, clips: Iterable[CacheClip], visual: Arrays, audio: Arrays) -> Path:
    """A folder as published for AVE."""
    write_splits(folder, clips)
    for name, arrays in ((VISUAL_NAMES[0], visual), (AUDIO_NAMES[0], audio)):
        part = folder / name.removesuffix("_dict.npy")
        part.mkdir()
        np.save(part / name, wrapped(dict(arrays)), allow_pickle=True)
    return folder


class StreamingPickler(pickle._Pickler):
    """Pickles an endless dict as pickle would, array by array, keeping none of them."""

    def memoize(self, obj: Any) -> None:
        if isinstance(obj, bytes | tuple | np.ndarray):  # their ids are taken again by later ones
            self.write(self.put(len(self.memo)))
            self.memo[-len(self.memo) - 1] = len(self.memo), None
        else:
            super().memoize(obj)

    def dump_pairs(self, pairs: Iterator[tuple[str, np.ndarray]]) -> None:
        self.write(pickle.PROTO + bytes([self.proto]) + pickle.EMPTY_DICT)
        self.memoize(())
        self._batch_setitems(pairs)
        self.write(pickle.STOP)


class HoleyFile:
    """Leaves long runs of zeros out of a file: it has its length without its blocks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        if len(data) > 2**16 and not np.frombuffer(data, np.uint8).any():
            self._file.seek(len(data), 1)
            return len(data)
        return self._file.write(data)
