"""Owns the one Python object in a `.npy` file written by `np.save(path, {...})`; numpy is not needed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from avcil.cache.plain_names import shown
from avcil.cache.plain_pickle import PlainReader
from avcil.errors import CacheError

MAX_BYTES = 64 * 2**20  # the published lists of 61 000 clips have 2 MB
MAX_HEADER_BYTES = 65_536
_NPY_HEADER = re.compile(
    r"\{'descr': '([^']*)', 'fortran_order': (?:True|False), 'shape': \(([0-9, ]*)\), \}\s*"
)


def read_npy_object(path: Path) -> object:
    """Read the Python object in a `.npy` file written by `np.save(path, {...})`.

    Raises `CacheError`, one line: not such a file, damaged, too large, or holding anything but plain data.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise CacheError(f"{path}: larger than the {MAX_BYTES >> 20} MiB expected of plain data")
            read_npy_header(file, path)
            value = PlainReader(file).read()
            if file.read(1):
                raise CacheError("there are bytes after its end")
    except CacheError as error:
        text = str(error)
        raise CacheError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror or error})") from error
    return value


def read_npy_header(file: BinaryIO, path: Path) -> None:
    """Read up to the pickle of the one object in a `.npy` file; raises `CacheError` for any other file."""
    start = file.read(8)
    size_bytes = {1: 2, 2: 4, 3: 4}.get(start[6]) if len(start) == 8 else None
    if start[:6] != b"\x93NUMPY" or size_bytes is None:
        raise CacheError(f"{path}: not a .npy file; np.save writes one")
    size = int.from_bytes(file.read(size_bytes), "little")
    header = file.read(size).decode("latin-1") if size <= MAX_HEADER_BYTES else ""
    found = _NPY_HEADER.fullmatch(header)
    if found is None:
        raise CacheError(f"{path}: damaged .npy header")
    if found[1] != "|O" or found[2] not in ("", "1,"):
        raise CacheError(
            f"{path}: holds an array of type {shown(found[1])} and shape ({found[2][:40]}), not one object"
        )
