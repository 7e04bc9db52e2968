"""Owns reading pickled plain data without unpickling it; imports, calls and builds nothing that a file names.

The opcodes are interpreted here one by one. What can come out is None, bool, int, float, str, bytes, list,
tuple, set and dict; of numpy only the wrapper that `np.save` puts around a Python object, and scalars. Every
other name, and every way of calling something, is refused by name. No container is referred to twice and no
length is trusted, so that time and memory grow with the size of the file at most.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from avcil.cache.plain_names import (
    ADMITTED,
    ONLY,
    SCALARS,
    ArrayOnItsWay,
    DType,
    Name,
    made,
    set_content,
    set_order,
    shown,
)
from avcil.errors import CacheError

MAX_VALUES = 4_000_000
MAX_DEPTH = 16
MAX_LINE_BYTES = 65_536  # text opcodes of protocol 0
MAX_INT_BYTES = 16
PIECE_BYTES = 2**20
_MARK = object()


@dataclass
class PlainReader:
    """Reads one pickled value from a binary stream. Letters: n bytes, op one opcode."""

    stream: BinaryIO
    _stack: list[object] = field(default_factory=list)
    _memo: dict[int, object] = field(default_factory=dict)
    _position: int = 0
    _values: int = 0

    def read(self) -> object:
        """Read up to the end of the pickle; raises `CacheError` saying at which byte and what was refused."""
        actions = self._actions()
        while True:
            at = self._position
            op = self._take(1)
            try:
                if op == b".":
                    value = self._plain(self._pop())
                    if self._stack:
                        raise CacheError("damaged: values left over at the end")
                    _check_inside(value)
                    return value
                action = actions.get(op)
                if action is None:
                    raise CacheError(f"refused: {_REFUSED.get(op, f'unknown opcode {op!r}')}{ONLY}")
                action(self)
            except CacheError as error:
                raise CacheError(f"pickle, byte {at}: {error}") from error
            except (ValueError, struct.error) as error:
                raise CacheError(
                    f"pickle, byte {at}: damaged: {' '.join(str(error).split())[:120]}"
                ) from error

    # Bytes.

    def _take(self, n: int) -> bytes:
        """Take n bytes in pieces, so that a length that lies costs no memory."""
        content = self.stream.read(min(n, PIECE_BYTES))
        if len(content) < n:
            content = self._with_rest(content, n)
        self._position += n
        return content

    def _with_rest(self, start: bytes, n: int) -> bytes:
        pieces, left = [start], n - len(start)
        while left:
            piece = self.stream.read(min(left, PIECE_BYTES))
            if not piece:
                raise CacheError(f"cut short: {n} bytes announced, {n - left} there")
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _number(self, n: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(n), "little", signed=signed)

    def _line(self, encoding: str = "utf-8") -> str:
        line = self.stream.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise CacheError("damaged: a line without end")
        self._position += len(line)
        return line[:-1].decode(encoding)

    # The stack.

    def _count(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise CacheError(f"refused: more than {MAX_VALUES} values")

    def _push(self, value: object) -> None:
        self._count()
        self._stack.append(value)

    def _pop(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise CacheError("damaged: a value is missing")
        return self._stack.pop()

    def _pop_plain(self) -> object:
        return self._plain(self._pop())

    def _pop_to_mark(self) -> list[object]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                values = self._stack[i + 1 :]
                del self._stack[i:]
                return values
        raise CacheError("damaged: no mark")

    def _plain(self, value: object) -> object:
        """Give `value` as data; a bare name or a type is none."""
        if isinstance(value, ArrayOnItsWay):
            return value.value()
        if isinstance(value, Name):
            raise CacheError(f"refused: it holds {value} itself{ONLY}")
        if isinstance(value, DType):
            raise CacheError(f"refused: it holds a numpy type itself{ONLY}")
        return value

    # Opcodes.

    def _frame(self) -> None:
        self._number(8)  # only a hint how much to read ahead

    def _protocol(self) -> None:
        version = self._number(1)
        if version > 5:
            raise CacheError(f"pickle protocol {version} is unknown")

    def _text(self, n_of_length: int) -> None:
        self._push(self._content(self._number(n_of_length), decode_text))

    def _bytes(self, n_of_length: int) -> None:
        self._push(self._content(self._number(n_of_length), bytes))

    def _python2_text(self, n_of_length: int) -> None:
        self._push(self._content(self._number(n_of_length), _text_or_bytes))

    def _quoted(self) -> None:
        line = self._line()
        if len(line) < 2 or line[0] not in "'\"" or line[0] != line[-1] or "\\" in line:
            raise CacheError("refused: a quoted text with escapes; pickle it again with protocol 2 or newer")
        self._push(line[1:-1])

    def _raw_unicode(self) -> None:
        self._push(self._line("raw-unicode-escape"))

    def _long(self, n_of_length: int) -> None:
        n = self._number(n_of_length)
        if n > MAX_INT_BYTES:
            raise CacheError(f"refused: a number of {n} bytes")
        self._push(self._number(n, signed=True))

    def _decimal(self) -> None:
        line = self._line().removesuffix("L")
        if line in ("00", "01"):  # how protocol 0 writes False and True
            self._push(line == "01")
            return
        if not re.fullmatch(r"-?[0-9]{1,38}", line):
            raise CacheError(f"refused: {shown(line)} as a whole number")
        self._push(int(line))

    def _float_line(self) -> None:
        self._push(float(self._line()))

    def _double(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def _tuple(self, n: int) -> None:
        values = [self._pop() for _ in range(n)]
        self._push(tuple(reversed(values)))

    def _marked_tuple(self) -> None:
        self._push(tuple(self._pop_to_mark()))

    def _marked_list(self) -> None:
        self._push([self._plain(value) for value in self._pop_to_mark()])

    def _marked_dict(self) -> None:
        items = self._pop_to_mark()
        target: dict[object, object] = {}
        self._fill(target, items)
        self._push(target)

    def _append(self) -> None:
        value = self._pop_plain()
        self._list().append(value)

    def _appends(self) -> None:
        values = [self._plain(value) for value in self._pop_to_mark()]
        self._list().extend(values)

    def _list(self) -> list[object]:
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, list):
            raise CacheError("damaged: items for something that is no list")
        return target

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._fill(self._dict(), [key, value])

    def _set_items(self) -> None:
        items = self._pop_to_mark()
        self._fill(self._dict(), items)

    def _dict(self) -> dict[object, object]:
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, dict):
            raise CacheError("damaged: items for something that is no dict")
        return target

    def _fill(self, target: dict[object, object], items: list[object]) -> None:
        if len(items) % 2:
            raise CacheError("damaged: a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self._key(key)] = self._plain(value)

    def _key(self, value: object) -> object:
        """A key must be a scalar: hashing nested tuples can take forever."""
        if not isinstance(value, SCALARS):
            raise CacheError(f"refused: a {_kind(value)} as a key or a member of a set{ONLY}")
        return value

    def _add_items(self) -> None:
        values = self._pop_to_mark()
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, set):
            raise CacheError("damaged: items for something that is no set")
        target.update(self._key(value) for value in values)

    def _marked_set(self) -> None:
        self._push({self._key(value) for value in self._pop_to_mark()})

    def _discard(self) -> None:
        if not self._stack:
            raise CacheError("damaged: a value is missing")
        self._stack.pop()

    def _discard_to_mark(self) -> None:
        self._pop_to_mark()

    def _remember(self, index: int) -> None:
        if not self._stack or self._stack[-1] is _MARK or index < 0:
            raise CacheError("damaged: nothing to remember")
        self._count()
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise CacheError(f"damaged: value {index} is referred to and was not stored")
        value = self._memo[index]
        if not isinstance(value, (*SCALARS, Name, DType)) and value != ():
            raise CacheError(f"refused: the same {_kind(value)} in two places{ONLY}")
        self._push(value)

    # Names: admitted or refused by name, never looked up.

    def _global(self) -> None:
        self._mention(self._line(), self._line())

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise CacheError("damaged: a name that is no text")
        self._mention(module, name)

    def _mention(self, module: str, name: str) -> None:
        if not self._admits(module, name):
            raise CacheError(f"refused: it names {shown(f'{module}.{name}')}{ONLY}")
        self._push(Name(module, name))

    def _instance(self) -> None:
        raise CacheError(f"refused: it makes a {shown(f'{self._line()}.{self._line()}')}{ONLY}")

    def _reduce(self) -> None:
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise CacheError(f"refused: it calls a {_kind(called)}{ONLY}")
        self._push(self._made(called, arguments))

    def _build(self) -> None:
        state = self._pop()
        target = self._stack[-1] if self._stack else None
        if isinstance(target, DType):
            set_order(target, state)
        elif isinstance(target, ArrayOnItsWay):
            self._set_content(target, state)
        else:
            raise CacheError(f"refused: it sets the state of a {_kind(target)}{ONLY}")

    # What a reader that admits more has to say differently.

    def _actions(self) -> Mapping[bytes, Callable[[PlainReader], None]]:
        return _ACTIONS

    def _content(self, n: int, decode: Callable[[bytes], object]) -> object:
        return decode(self._take(n))

    def _admits(self, module: str, name: str) -> bool:
        return (module, name) in ADMITTED

    def _made(self, called: Name, arguments: tuple[object, ...]) -> object:
        return made(called, arguments)

    def _set_content(self, array: ArrayOnItsWay, state: object) -> None:
        set_content(array, state)


# Opcode -> action; the names are those of Python's pickletools.
_ACTIONS: dict[bytes, Callable[[PlainReader], None]] = {
    b"\x80": PlainReader._protocol,
    b"\x95": PlainReader._frame,
    b"N": lambda reader: reader._push(None),
    b"\x88": lambda reader: reader._push(True),
    b"\x89": lambda reader: reader._push(False),
    b"I": PlainReader._decimal,
    b"L": PlainReader._decimal,
    b"K": lambda reader: reader._push(reader._number(1)),
    b"M": lambda reader: reader._push(reader._number(2)),
    b"J": lambda reader: reader._push(reader._number(4, signed=True)),
    b"\x8a": lambda reader: reader._long(1),
    b"\x8b": lambda reader: reader._long(4),
    b"F": PlainReader._float_line,
    b"G": PlainReader._double,
    b"X": lambda reader: reader._text(4),
    b"\x8c": lambda reader: reader._text(1),
    b"\x8d": lambda reader: reader._text(8),
    b"V": PlainReader._raw_unicode,
    b"S": PlainReader._quoted,
    b"U": lambda reader: reader._python2_text(1),
    b"T": lambda reader: reader._python2_text(4),
    b"C": lambda reader: reader._bytes(1),
    b"B": lambda reader: reader._bytes(4),
    b"\x8e": lambda reader: reader._bytes(8),
    b"(": lambda reader: reader._push(_MARK),
    b")": lambda reader: reader._push(()),
    b"\x85": lambda reader: reader._tuple(1),
    b"\x86": lambda reader: reader._tuple(2),
    b"\x87": lambda reader: reader._tuple(3),
    b"t": PlainReader._marked_tuple,
    b"]": lambda reader: reader._push([]),
    b"l": PlainReader._marked_list,
    b"a": PlainReader._append,
    b"e": PlainReader._appends,
    b"}": lambda reader: reader._push({}),
    b"d": PlainReader._marked_dict,
    b"s": PlainReader._set_item,
    b"u": PlainReader._set_items,
    b"\x8f": lambda reader: reader._push(set()),
    b"\x90": PlainReader._add_items,
    b"\x91": PlainReader._marked_set,
    b"0": PlainReader._discard,
    b"1": PlainReader._discard_to_mark,
    b"p": lambda reader: reader._remember(_index(reader._line())),
    b"q": lambda reader: reader._remember(reader._number(1)),
    b"r": lambda reader: reader._remember(reader._number(4)),
    b"\x94": lambda reader: reader._remember(len(reader._memo)),
    b"g": lambda reader: reader._recall(_index(reader._line())),
    b"h": lambda reader: reader._recall(reader._number(1)),
    b"j": lambda reader: reader._recall(reader._number(4)),
    b"c": PlainReader._global,
    b"\x93": PlainReader._stack_global,
    b"R": PlainReader._reduce,
    b"b": PlainReader._build,
    b"i": PlainReader._instance,
}
_REFUSED = {
    b"o": "it makes an object (OBJ)",
    b"\x81": "it makes an object (NEWOBJ)",
    b"\x92": "it makes an object (NEWOBJ_EX)",
    b"P": "it refers to something outside (PERSID)",
    b"Q": "it refers to something outside (BINPERSID)",
    b"\x82": "it calls a registered extension (EXT1)",
    b"\x83": "it calls a registered extension (EXT2)",
    b"\x84": "it calls a registered extension (EXT4)",
    b"\x96": "a bytearray (BYTEARRAY8)",
    b"\x97": "a buffer outside the file (NEXT_BUFFER)",
    b"\x98": "a buffer outside the file (READONLY_BUFFER)",
    b"2": "the same value in two places (DUP)",
}


def _check_inside(value: object) -> None:
    """Refuse what is nested so deep that printing or comparing it could fail, and names within tuples."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [part for parent in level for part in _parts(parent) if not isinstance(part, SCALARS)]
        for part in level:
            if isinstance(part, (ArrayOnItsWay, Name, DType)):
                raise CacheError(f"refused: a {_kind(part)} within a tuple{ONLY}")
        if not level:
            return
    raise CacheError(f"refused: nested deeper than {MAX_DEPTH}")


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def decode_text(content: bytes) -> str:
    """Decode a pickle's text, which may hold lone surrogates."""
    return content.decode("utf-8", "surrogatepass")


def _text_or_bytes(content: bytes) -> str | bytes:
    """Python 2 had one type for both."""
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        return content


def _index(line: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", line):
        raise CacheError(f"damaged: {shown(line)} as a place")
    return int(line)


def _kind(value: object) -> str:
    if isinstance(value, (ArrayOnItsWay, Name, DType)):
        return "numpy array" if isinstance(value, ArrayOnItsWay) else "name"
    return "mark" if value is _MARK else type(value).__name__
