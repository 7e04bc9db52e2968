"""Owns a pickled dict of numpy arrays, read without unpickling it and without holding the arrays.

The pickle is walked once, from front to end: names and short texts are read, the numbers of an array are
passed over, and what is remembered of it is where in the file they lie. So the walk takes memory for the
names only, a file that is malicious or cut short is refused before anything is made of it, and an array that
stands under two names is no special case.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from avcil.cache.npy_object import read_npy_header
from avcil.cache.plain_names import ONLY, ArrayOnItsWay, DType, Name, shown
from avcil.cache.plain_pickle import PlainReader, decode_text
from avcil.errors import CacheError

KEPT_BYTES = 1024  # longer texts and bytes stay in the file; no name and no id is longer
MAX_AXES = 32  # of a numpy array, before numpy 2
_NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")  # before and since numpy 2
_NUMBERS = re.compile(r"f[248]|[iu][1248]|b1")


@dataclass(frozen=True)
class Stretch:
    """`n` bytes of the file from `offset`; with `is_text` they are UTF-8 and mean the text's Latin-1 bytes.

    Protocol 2 has no bytes and writes them as such a text.
    """

    offset: int
    n: int
    is_text: bool = False

    def read_into(self, file: BufferedReader, target: memoryview) -> None:
        """Read what it means, exactly as many bytes as `target` has; raises `CacheError`."""
        file.seek(self.offset)
        if self.is_text:
            content = _latin1(decode_text(file.read(self.n)))
            if len(content) == len(target):
                target[:] = content
                return
        elif self.n == len(target) and file.readinto(target) == self.n:
            return
        raise CacheError(f"byte {self.offset}: the array there does not have {len(target)} bytes")


@dataclass(frozen=True)
class PickledArray:
    """One array: what it is, and its numbers or where they lie. `order`: "C" by rows, "F" by columns."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    content: Stretch | bytes

    def read(self, file: BufferedReader) -> np.ndarray:
        """Read the array out of its file."""
        flat = np.empty(math.prod(self.shape), self.dtype)
        view = flat.view(np.uint8).data
        if isinstance(self.content, Stretch):
            self.content.read_into(file, view)
        else:
            view[:] = self.content
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


def walk_pickled_arrays(file: BufferedReader, path: Path) -> Mapping[str, PickledArray]:
    """Find the arrays of a pickled {name: array}, in a `.npy` file or bare; `file` is open at its start.

    Raises `CacheError`, one line: something else, cut short, damaged, or holding anything but such a dict.
    """
    if file.read(1) != b"\x80":
        file.seek(0)
        read_npy_header(file, path)
    else:
        file.seek(0)
    try:
        value = ArrayReader(file).read()
        if file.read(1):
            raise CacheError("there are bytes after its end")
        if not isinstance(value, dict):
            raise CacheError(f"it holds a {type(value).__name__}, not a dict {{id: array}}")
        for key, array in value.items():
            if not isinstance(key, str) or not isinstance(array, PickledArray):
                raise CacheError(f"{shown(str(key))} is a {type(array).__name__}, not an array under a text")
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error
    return value


@dataclass
class ArrayReader(PlainReader):
    """Reads one pickled value like `PlainReader`, with arrays of numbers in it as `PickledArray`."""

    _size: int = field(init=False)

    def __post_init__(self) -> None:
        self._size = os.fstat(self.stream.fileno()).st_size

    def _actions(self) -> Mapping[bytes, Callable[[PlainReader], None]]:
        return {**super()._actions(), b"\x96": lambda reader: reader._bytes(8)}  # bytearray

    def _content(self, n: int, decode: Callable[[bytes], object]) -> object:
        """Pass over what is long. The file's size is looked at: a seek beyond its end fails nowhere."""
        if n <= KEPT_BYTES:
            return super()._content(n, decode)
        offset = self.stream.tell()
        if offset + n > self._size:
            there = self._size - offset
            raise CacheError(f"cut short: {n} bytes announced, {there} there; fetch the file again")
        self.stream.seek(n, os.SEEK_CUR)
        self._position += n
        return Stretch(offset, n, is_text=decode is decode_text)

    def _admits(self, module: str, name: str) -> bool:
        return super()._admits(module, name) or (module in _NUMERIC_MODULES and name == "_frombuffer")

    def _made(self, called: Name, arguments: tuple[object, ...]) -> object:
        if called.name == "_frombuffer" and len(arguments) == 4:  # how protocol 5 writes an array
            content, dtype, shape, order = arguments
            return _array(dtype, shape, order, content)
        if called.name == "encode" and arguments[1:] in (("latin1",), ("latin-1",)):
            text = arguments[0]
            if isinstance(text, Stretch) and text.is_text:
                return text
        return super()._made(called, arguments)

    def _set_content(self, array: ArrayOnItsWay, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], DType):
            _, shape, dtype, is_fortran, content = state
            if _NUMBERS.fullmatch(dtype.code):
                array.fill(_array(dtype, shape, "F" if is_fortran else "C", content))
                return
        super()._set_content(array, state)

    def _recall(self, index: int) -> None:
        value = self._memo.get(index)
        whole = value.content if isinstance(value, ArrayOnItsWay) else value
        if isinstance(whole, (PickledArray, Stretch)):  # they hold nothing, so they may stand anywhere
            self._push(whole)
        else:
            super()._recall(index)

    def _key(self, value: object) -> object:
        if isinstance(value, Stretch):
            raise CacheError(f"refused: a key of {value.n} bytes")
        return super()._key(value)

    def _plain(self, value: object) -> object:
        if isinstance(value, Stretch):
            raise CacheError(f"refused: {value.n} bytes that are no array's{ONLY}")
        return super()._plain(value)


def _array(dtype: object, shape: object, order: object, content: object) -> PickledArray:
    if not isinstance(dtype, DType) or not _NUMBERS.fullmatch(dtype.code):
        code = dtype.code if isinstance(dtype, DType) else "?"
        raise CacheError(f"refused: an array of type {shown(code)}; only arrays of numbers are read")
    if not isinstance(shape, tuple) or len(shape) > MAX_AXES or not all(map(_is_length, shape)):
        raise CacheError("damaged: the shape of an array")
    if order not in ("C", "F"):
        raise CacheError("refused: an array that is not stored by rows or by columns; pickle a copy of it")
    kind = np.dtype(("<" if dtype.order in "|=" else dtype.order) + dtype.code)
    n_bytes = math.prod(shape) * kind.itemsize
    if isinstance(content, str):  # Python 2 wrote bytes as text
        content = _latin1(content)
    if not isinstance(content, (Stretch, bytes)):
        raise CacheError("damaged: an array without numbers")
    n = content.n if isinstance(content, Stretch) else len(content)
    widest = 2 * n_bytes if isinstance(content, Stretch) and content.is_text else n_bytes
    if not n_bytes <= n <= widest:  # UTF-8 takes one or two bytes for each
        raise CacheError(f"damaged: an array of {n_bytes} bytes with {n}")
    return PickledArray(kind, shape, str(order), content)


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise CacheError("damaged: the text that stands for bytes") from error
