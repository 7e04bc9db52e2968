"""Owns what the names in pickled plain data stand for: numpy's wrapper, its scalars, Python's sets and bytes.

Nothing is imported, called or built: every admitted name has its meaning here, every other one is refused.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from avcil.errors import CacheError

SCALARS = (type(None), bool, int, float, str, bytes)
ONLY = "; only plain dicts, lists, tuples, sets, texts and numbers are read"

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since numpy 2
ADMITTED = frozenset(
    [(module, name) for module in _ARRAY_MODULES for name in ("_reconstruct", "scalar")]
    + [(module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "bytes")]
    + [("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")]
)


@dataclass(frozen=True)
class Name:
    """A name that the file mentions, from `ADMITTED`. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class DType:
    """numpy's description of a number or text: kind and bytes, and the byte order that BUILD sets."""

    code: str
    order: str = "<"


@dataclass
class ArrayOnItsWay:
    """A numpy array whose content comes with BUILD, once."""

    content: object = None
    is_filled: bool = False

    def fill(self, content: object) -> None:
        """Take the content."""
        if self.is_filled:
            raise CacheError("damaged: the content of an array comes twice")
        self.content, self.is_filled = content, True

    def value(self) -> object:
        """What it holds: of an object array the object, or the list of them."""
        if not self.is_filled:
            raise CacheError("damaged: an array without content")
        return self.content


def made(called: Name, arguments: tuple[object, ...]) -> object:
    """What an admitted name gives, computed here."""
    name = called.name
    if name == "_reconstruct" and arguments == (Name("numpy", "ndarray"), (0,), b"b"):
        return ArrayOnItsWay()
    if name == "dtype" and arguments and isinstance(arguments[0], str):
        return DType(arguments[0])
    if name == "scalar" and len(arguments) == 2:
        return _scalar(*arguments)
    if name in ("set", "frozenset") and len(arguments) <= 1:
        return _as_set(arguments[0] if arguments else [])
    if name == "bytes" and not arguments:
        return b""
    if name == "encode" and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
        text = arguments[0]  # how protocol 2 writes bytes
        if isinstance(text, str):
            return text.encode("latin-1")
    raise CacheError(f"refused: it calls {called} in a way that is not plain data{ONLY}")


def _as_set(values: object) -> set[object]:
    if not isinstance(values, list) or not all(isinstance(value, SCALARS) for value in values):
        raise CacheError(f"refused: a set of something else than texts and numbers{ONLY}")
    return set(values)


def _scalar(dtype: object, content: object) -> object:
    """A numpy number or text as Python's own."""
    if not isinstance(dtype, DType):
        raise CacheError("damaged: a numpy number without type")
    found = re.fullmatch(r"[<>|=]?([biufUS])([0-9]{1,6})", dtype.code)
    if isinstance(content, str):  # Python 2 wrote bytes as text
        content = content.encode("latin-1")
    if found is None or not isinstance(content, bytes) or len(content) != _n_bytes(found[1], int(found[2])):
        raise CacheError(f"refused: a numpy value of type {shown(dtype.code)}{ONLY}")
    kind, n = found[1], int(found[2])
    order = ">" if dtype.order == ">" else "<"
    if kind in "iu" and n <= 8:
        return int.from_bytes(content, "big" if order == ">" else "little", signed=kind == "i")
    if kind == "f" and n in (2, 4, 8):
        return struct.unpack(order + {2: "e", 4: "f", 8: "d"}[n], content)[0]
    if kind == "b" and n == 1:
        return content != b"\0"
    if kind == "U":
        return content.decode("utf-32-be" if order == ">" else "utf-32-le").rstrip("\0")
    if kind == "S":
        return content.rstrip(b"\0")
    raise CacheError(f"refused: a numpy value of type {shown(dtype.code)}{ONLY}")


def _n_bytes(kind: str, n: int) -> int:
    return 4 * n if kind == "U" else n


def set_order(dtype: DType, state: object) -> None:
    """Numpy's state of a simple type: (version, order, no sub-array, no names, no fields, ...)."""
    simple = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
    if not (simple and isinstance(state, tuple) and state[1] in ("<", ">", "|", "=")):
        raise CacheError(f"refused: a numpy type with parts{ONLY}")
    dtype.order = str(state[1])


def set_content(array: ArrayOnItsWay, state: object) -> None:
    """Numpy's state of an object array: (version, shape, type, is_fortran, list of objects)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise CacheError("damaged: the content of an array")
    _, shape, dtype, _, items = state
    if not isinstance(dtype, DType) or dtype.code not in ("O8", "O4", "O", "|O"):
        code = dtype.code if isinstance(dtype, DType) else "?"
        raise CacheError(f"refused: a numpy array of type {shown(code)}{ONLY}")
    if not isinstance(items, list) or shape not in ((), (len(items),)) or (shape == () and len(items) != 1):
        raise CacheError(f"refused: a numpy array of more than one axis, or damaged{ONLY}")
    array.fill(items[0] if shape == () else items)


def shown(text: str) -> str:
    """Quote what a file says, on one line and not too long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
