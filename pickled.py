"""Pickled plain data and pickled arrays of numbers, read without calling anything that a file names.

Python's own unpickler interprets the opcodes. Every name in a file stands for a function of this module or is
refused, and so is every opcode that makes an object. Lengths are checked against the file's size, long bytes
and texts stay in the file as spans, and steps, depth and numbers have limits.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import re
import struct
import tokenize
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from avcil.errors import CacheError

MAX_PLAIN_BYTES = 64 * 2**20  # of a file of plain data; the published lists of 61 000 clips have 2 MB
MAX_STEPS = 8_000_000  # reads of at most 64 bytes; an array takes about 45
MAX_DEPTH = 16
MAX_READ_BYTES = 65_536  # of a line of protocol 0 or a number
MAX_INT_BITS = 128
MAX_AXES = 32  # of a numpy array, before numpy 2
KEPT_BYTES = 1024  # longer texts and bytes stay in the file; no name and no id is longer
KEPT_PLAIN_BYTES = 8192  # the same in plain data, where nothing may stay in the file
_ONLY = "; only plain dicts, lists, tuples, sets, texts and numbers are read"
_SCALARS = (type(None), bool, int, float, str, bytes)
_NUMBERS = re.compile(r"f[248]|[iu][1248]|b1")
_DAMAGE = (pickle.UnpicklingError, struct.error, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Span:
    """`n` bytes of the file from `offset`; with `is_text` they are UTF-8 and mean the text's Latin-1 bytes.

    Protocol 2 has no bytes and writes them as such a text.
    """

    offset: int
    n: int
    is_text: bool = False

    def read_into(self, file: BufferedReader, target: memoryview) -> None:
        """Read exactly as many bytes as `target` has; raises `CacheError` where there are more or fewer."""
        file.seek(self.offset)
        if self.is_text:
            content = file.read(self.n).decode("utf-8", "surrogatepass").encode("latin-1")
            if len(content) == len(target):
                target[:] = content
                return
        elif self.n == len(target) and file.readinto(target) == self.n:
            return
        raise CacheError(f"byte {self.offset}: the array there does not have {len(target)} bytes")


@dataclass(frozen=True)
class PickledArray:
    """One array of numbers, which lie in the file if they are many. `order`: "C" by rows, "F" by columns."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    content: Span | bytes

    def read(self, file: BufferedReader) -> np.ndarray:
        """Read the array out of its file; raises `CacheError` or `ValueError` where the file was damaged."""
        flat = np.empty(math.prod(self.shape), self.dtype)
        view = flat.view(np.uint8).data
        if isinstance(self.content, Span):
            self.content.read_into(file, view)
        else:
            view[:] = self.content
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


def read_npy_object(path: Path) -> object:
    """Read the Python object in a `.npy` file written by `np.save(path, {...})`.

    Raises:
        CacheError: not such a file, damaged, too large, or holding anything but plain data.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_PLAIN_BYTES:
                raise CacheError(f"larger than the {MAX_PLAIN_BYTES >> 20} MiB expected of plain data")
            _read_npy_header(file)
            return read_plain(file)
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_plain(file: BinaryIO) -> object:
    """Read one pickled value of None, bool, int, float, str, bytes, list, tuple, set and dict, up to the end.

    numpy's scalars become Python's own; of a numpy array of one Python object, the object is read.

    Raises:
        CacheError: cut short, damaged, or holding anything else.
    """
    return _plain(_Unpickler(file, KEPT_PLAIN_BYTES).read(), MAX_DEPTH)


def read_pickled_arrays(file: BufferedReader, path: Path) -> dict[str, PickledArray]:
    """Find the arrays of a pickled {name: array}, in a `.npy` file or bare; `file` is open at its start.

    The file is read once from front to end without the numbers: only names take memory.

    Raises:
        CacheError: something else, cut short, damaged, or holding anything but such a dict.
    """
    try:
        is_bare = file.read(1) == pickle.PROTO
        file.seek(0)
        if not is_bare:
            _read_npy_header(file)
        value = _unwrapped(_Unpickler(file, KEPT_BYTES).read())
        if not isinstance(value, dict):
            raise CacheError(f"it holds a {_kind(value)}, not a dict {{id: array}}")
        arrays: dict[str, PickledArray] = {}
        for key, wrapped in value.items():
            array = _unwrapped(wrapped)
            if not isinstance(key, str) or not isinstance(array, PickledArray):
                raise CacheError(f"{shown(str(key))} is a {_kind(array)}, not an array under a text")
            arrays[key] = array
        return arrays
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error


def shown(text: str) -> str:
    """Quote what a file holds, on one line and not too long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _read_npy_header(file: BinaryIO) -> None:
    """Read up to the pickle of the one object in a `.npy` file; raises `CacheError` for any other file."""
    source: Any = _Source(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        read = headers[np.lib.format.read_magic(source)]
    except (CacheError, LookupError, ValueError) as error:
        raise CacheError("not a .npy file; np.save writes one") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as: Python 2 wrote it
            shape, _, dtype = read(source)
    except (CacheError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, *_DAMAGE) as error:
        raise CacheError("damaged .npy header") from error
    if dtype != np.dtype(object) or shape not in ((), (1,)):
        raise CacheError(f"holds an array of type {shown(dtype.str)} and shape {shape}, not one object")


class _Source:
    """The file as an unpickler reads it: no length is trusted, no line is endless, reads are counted."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.steps, start = file, 0, file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(start)

    def read(self, n: int) -> bytes:
        data = self.file.read(min(n, MAX_READ_BYTES))
        self.count(len(data))
        if len(data) < n:
            if len(data) == MAX_READ_BYTES:
                raise CacheError(f"refused: a number of {n} bytes")
            raise CacheError(f"cut short: {n} bytes announced, {len(data)} there; fetch the file again")
        return data

    def readline(self) -> bytes:
        line = self.file.readline(MAX_READ_BYTES)
        self.count(len(line))
        if not line.endswith(b"\n"):
            raise CacheError("damaged: a line without end")
        return line

    def skip(self, n: int) -> int:
        """Pass over n bytes that must be there, as a seek beyond the end fails nowhere; gives their start."""
        start = self.file.tell()
        if (there := self.size - start) < n:
            raise CacheError(f"cut short: {n} bytes announced, {there} there; fetch the file again")
        self.file.seek(n, os.SEEK_CUR)
        return start

    def count(self, n_bytes: int) -> None:
        self.steps += 1 + (n_bytes >> 6)
        if self.steps > MAX_STEPS:
            raise CacheError(f"refused: more than {MAX_STEPS} values")


_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):  # type: ignore[misc]  # whose attributes are not declared
    """Python's unpickler with other names, other containers and fewer opcodes."""

    def __init__(self, file: BinaryIO, kept_bytes: int) -> None:
        self.source, self.kept_bytes = _Source(file), kept_bytes
        super().__init__(self.source)
        self.memo, self.dispatch = _Memo(), _OPCODES

    def read(self) -> object:
        """Read the one value; raises `CacheError` with the byte that reading came to."""
        try:
            value = self.load()
            if self.stack or self.metastack:
                raise CacheError("damaged: values left over at the end")
            if self.source.file.read(1):
                raise CacheError("there are bytes after its end")
            return value
        except CacheError as error:
            raise CacheError(f"pickle, byte {self.source.file.tell()}: {error}") from error
        except _DAMAGE as error:
            words = " ".join(str(error).split())[:120]
            raise CacheError(f"pickle, byte {self.source.file.tell()}: damaged: {words}") from error

    def find_class(self, module: str, name: str) -> Any:
        text = f"{module}.{name}"
        known = text.replace("numpy.core.", "numpy._core.", 1).replace("__builtin__.", "builtins.", 1)
        if known not in _MAKERS:
            raise CacheError(f"refused: it names {shown(text)}{_ONLY}")
        return _Name(known)

    def load_content(self, length: str, is_text: bool = False) -> None:
        """Bytes or a text, after their length in the form that `struct` calls `length`."""
        (n,) = struct.unpack(length, self.source.read(struct.calcsize(length)))
        if n > self.kept_bytes:
            self.append(Span(self.source.skip(n), n, is_text))
        else:
            data = self.source.read(max(n, 0))
            self.append(data.decode("utf-8", "surrogatepass") if is_text else data)

    def load_python2_bytes(self, length: str) -> None:
        """Texts or bytes of Python 2, which had one type for both."""
        self.load_content(length)
        if isinstance(content := self.stack[-1], bytes) and content.isascii():
            self.stack[-1] = content.decode("ascii")

    def load_dict(self) -> None:
        items, made = self.pop_mark(), _Dict()
        for i in range(0, len(items), 2):
            made[items[i]] = items[i + 1]
        self.append(made)

    def load_reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise CacheError(f"refused: it calls a {_kind(called)}{_ONLY}")
        for argument in arguments:  # one text can be converted many times
            self.source.count(len(argument) if isinstance(argument, (str, bytes)) else 0)
        try:
            self.append(_MAKERS[called.text](*arguments))
        except (TypeError, ValueError) as error:
            raise CacheError(f"refused: {called.text} is called with other than plain data{_ONLY}") from error

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, (_DType, _Wrapper)):
            raise CacheError(f"refused: it sets the state of a {_kind(target)}{_ONLY}")
        target.set_state(*state)


class _Memo(dict[int, Any]):
    """What a file refers to again; no container, so that memory and time grow with the file at most."""

    def __getitem__(self, index: int) -> Any:
        value = super().__getitem__(index)
        if isinstance(value, _Wrapper) and isinstance(value.content, PickledArray):
            return value.content
        if not isinstance(value, (*_SCALARS, PickledArray, Span, _Name, _DType)) and value != ():
            raise CacheError(f"refused: the same {_kind(value)} in two places{_ONLY}")
        return value


class _Dict(dict[object, object]):
    """A dict with checked keys."""

    def __setitem__(self, key: object, value: object) -> None:
        super().__setitem__(_key(key), value)


class _Set(set[object]):
    """A set with checked members."""

    def update(self, *others: Iterable[object]) -> None:
        for values in others:
            super().update(map(_key, values))


def _key(value: object) -> object:
    """Refuse all but scalars: hashing nested tuples can take forever."""
    if not isinstance(value, _SCALARS):
        raise CacheError(f"refused: a {_kind(value)} as a key or a member of a set{_ONLY}")
    return value


@dataclass(frozen=True)
class _Name:
    """A name in the file; `_MAKERS` has what it makes."""

    text: str


@dataclass
class _DType:
    """numpy's description of a number or text: kind and bytes, and the byte order that BUILD sets."""

    code: str
    order: str = "<"

    def set_state(self, version: object, order: object, *parts: object) -> None:
        if order not in ("<", ">", "|", "=") or parts[:3] != (None, None, None):
            raise CacheError(f"refused: a numpy type with parts{_ONLY}")
        self.order = str(order)


@dataclass
class _Wrapper:
    """A numpy array whose content comes with BUILD, once: numbers, a Python object or a list of objects."""

    content: object = ...

    def set_state(
        self, version: object, shape: object, dtype: object, by_columns: object, content: object
    ) -> None:
        if self.content is not ...:
            raise CacheError("damaged: the content of an array comes twice")
        if not isinstance(dtype, _DType) or dtype.code not in ("O8", "O4", "O", "|O"):
            self.content = _array(content, dtype, shape, "F" if by_columns else "C")
        elif isinstance(content, list) and (shape == (len(content),) or (shape, len(content)) == ((), 1)):
            self.content = content if shape else content[0]
        else:
            raise CacheError(f"refused: a numpy array of more than one axis, or damaged{_ONLY}")


def _unwrapped(value: object) -> object:
    if not isinstance(value, _Wrapper):
        return value
    if value.content is ...:
        raise CacheError("damaged: an array without content")
    return value.content


def _plain(value: object, depth: int) -> Any:
    """Give `value` in containers of Python's own, where all of it is plain data."""
    value = _unwrapped(value)
    if isinstance(value, _SCALARS):
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise CacheError(f"refused: a number of {value.bit_length()} bits")
        return value
    for kind in (dict, list, tuple, set):
        if isinstance(value, kind):
            if not depth:
                raise CacheError(f"refused: nested deeper than {MAX_DEPTH}")
            items = value.items() if isinstance(value, dict) else value
            return kind(_plain(item, depth - (kind is not dict)) for item in items)
    raise CacheError(f"refused: it holds a {_kind(value)}{_ONLY}")


def _kind(value: object) -> str:
    """What to call a value in a message."""
    if isinstance(value, Span):
        return f"text of {value.n} bytes that are no array's"
    if isinstance(value, PickledArray):
        return f"numpy array of type {shown(value.dtype.str)}"
    if isinstance(value, _Name):
        return f"name, {value.text}"
    names: dict[type, str] = {_DType: "numpy type", _Wrapper: "numpy array", _Dict: "dict", _Set: "set"}
    return names.get(type(value), type(value).__name__)


def _reconstruct(kind: object, shape: object, code: object) -> _Wrapper:
    if (kind, shape) != (_Name("numpy.ndarray"), (0,)) or code not in (b"b", "b"):
        raise TypeError
    return _Wrapper()


def _dtype(code: object, *_: object) -> _DType:
    if not isinstance(code, str):
        raise TypeError
    return _DType(code)


def _scalar(dtype: object, content: object) -> object:
    """A numpy number or text as Python's own."""
    code = dtype.code if isinstance(dtype, _DType) else "?"
    if isinstance(content, str):  # Python 2 wrote bytes as text
        content = content.encode("latin-1")
    if isinstance(dtype, _DType) and re.fullmatch(r"[<>|=]?(f[248]|[iu][1248]|b1|[US][0-9]{1,4})", code):
        kind = np.dtype(code).newbyteorder(">" if dtype.order == ">" else "<")
        if isinstance(content, bytes) and len(content) == kind.itemsize:
            return np.frombuffer(content, kind)[0].item()
    raise CacheError(f"refused: a numpy value of type {shown(code)}{_ONLY}")


def _set(values: Any = ()) -> _Set:
    made = _Set()
    made.update(values)
    return made


def _encode(text: Any, encoding: object) -> Span | bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise TypeError
    return text if isinstance(text, Span) and text.is_text else str.encode(text, "latin-1")


def _array(content: object, dtype: object, shape: object, order: object) -> PickledArray:
    """An array as protocol 5 writes it; older ones have the same in the state of a wrapper."""
    if not isinstance(dtype, _DType) or not _NUMBERS.fullmatch(dtype.code):
        code = dtype.code if isinstance(dtype, _DType) else "?"
        raise CacheError(f"refused: a numpy array of type {shown(code)}; only arrays of numbers are read")
    lengths = shape if isinstance(shape, tuple) and len(shape) <= MAX_AXES else (None,)
    if not all(type(n) is int and 0 <= n < 2**48 for n in lengths):
        raise CacheError("damaged: the shape of an array")
    if order not in ("C", "F"):
        raise CacheError("refused: an array that is not stored by rows or by columns; pickle a copy of it")
    kind = np.dtype(("<" if dtype.order in "|=" else dtype.order) + dtype.code)
    if isinstance(content, str):  # Python 2 wrote bytes as text
        content = content.encode("latin-1")
    if not isinstance(content, (Span, bytes)):
        raise CacheError("damaged: an array without numbers")
    n_bytes = math.prod(lengths) * kind.itemsize
    n = content.n if isinstance(content, Span) else len(content)
    widest = 2 * n_bytes if isinstance(content, Span) and content.is_text else n_bytes
    if not n_bytes <= n <= widest:  # UTF-8 takes one or two bytes for each
        raise CacheError(f"damaged: an array of {n_bytes} bytes with {n}")
    return PickledArray(kind, lengths, str(order), content)


_MAKERS: dict[str, Any] = {
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _array,
    "numpy.dtype": _dtype,
    "numpy.ndarray": None,  # an argument of _reconstruct, nothing to call
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytes": lambda: b"",
    "_codecs.encode": _encode,
}


class _Opcodes(dict[int, Callable[[Any], object]]):
    """What each opcode that is read does."""

    def __missing__(self, code: int) -> Callable[[Any], object]:
        known = {one.code: one for one in pickletools.opcodes}.get(chr(code))
        raise CacheError(f"refused: {known.name if known else f'unknown opcode {code}'}{_ONLY}")


_AS_IN_PYTHON = """
    PROTO NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT UNICODE
    SHORT_BINUNICODE SHORT_BINBYTES MARK EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
    SETITEM SETITEMS ADDITEMS POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL STOP
"""
_OTHERWISE: dict[str, Callable[[_Unpickler], object]] = {
    "FRAME": lambda reader: reader.source.read(8),  # only a hint how much to read ahead
    "BINUNICODE": lambda reader: reader.load_content("<I", is_text=True),
    "BINUNICODE8": lambda reader: reader.load_content("<Q", is_text=True),
    "BINBYTES": lambda reader: reader.load_content("<I"),
    "BINBYTES8": lambda reader: reader.load_content("<Q"),
    "BYTEARRAY8": lambda reader: reader.load_content("<Q"),
    "BINSTRING": lambda reader: reader.load_python2_bytes("<I"),
    "SHORT_BINSTRING": lambda reader: reader.load_python2_bytes("<B"),
    "EMPTY_DICT": lambda reader: reader.append(_Dict()),
    "EMPTY_SET": lambda reader: reader.append(_Set()),
    "FROZENSET": lambda reader: reader.append(_set(reader.pop_mark())),
    "DICT": _Unpickler.load_dict,
    "REDUCE": _Unpickler.load_reduce,
    "BUILD": _Unpickler.load_build,
}
_CODES = {name: getattr(pickle, name)[0] for name in (*_AS_IN_PYTHON.split(), *_OTHERWISE)}
_OPCODES = _Opcodes(
    {code: _OTHERWISE.get(name) or _PythonUnpickler.dispatch[code] for name, code in _CODES.items()}
)
