"""Parsed JSON and TOML as dataclasses: names, types and sizes are checked before anything is built.

A file is data that somebody else may have written or damaged. The fields of a dataclass and their type hints
are its schema: there is no other check of names and types. A dataclass adds what its values have to fulfil
together in `__post_init__`. One whose table has another shape than its fields, such as an older version of a
file, has a class method `as_fields` that rearranges it.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from avcil.errors import AvcilError
from avcil.files import reason

MAX_FILE_BYTES = 64 << 20  # of JSON: a hundred times what a run of 300 000 clips records of a step
MAX_DEPTH = 20  # of values whose schema is not known
MAX_WHOLE = 1 << 64  # magnitude of whole numbers; seeds have 64 bits
MAX_SHOWN = 80  # characters of a value or a name in a message
STATED = {"stated": True}  # metadata of a field that has a default in Python and must stand in a file
BESIDE = {"beside": True}  # of a table whose keys stand beside the other fields in a file, see `as_fields`
Kind = TypeVar("Kind")
Reader = Callable[[Any], Any]


def from_table(
    kind: type[Kind],
    table: object,
    error: type[AvcilError],
    *,
    where: str = "",
    key: str = "",
    finite: bool = True,
) -> Kind:
    """Fill dataclass `kind` from a parsed table, whose tables and lists may be dataclasses and tuples in it.

    Args:
        kind: the dataclass; unknown keys and missing ones without a default are errors.
        table: what a parser gave, or values in Python.
        error: what is raised.
        where: for the message, such as a file's name.
        key: for the message, the name of the table itself.
        finite: whether numbers in fields of type float must be finite.

    Raises:
        error: names key, value and what is expected there; also what `kind` refuses.
    """
    try:
        hint: Any = kind
        filled: Kind = _reader(hint, finite)(table)
    except _Refused as refused:
        message = refused.say(_dotted((key, *refused.path) if key else refused.path))
        raise error(f"{where}: {message}" if where else message) from refused.__cause__
    return filled


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("not JSON that avcil reads: nested too deep") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def read_json(path: Path, error: type[AvcilError]) -> Any:
    """The value in a JSON file.

    Raises:
        error: it cannot be read, is too large, or no JSON; begins with the file's name.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise error(f"{path.name}: larger than {MAX_FILE_BYTES >> 20} MiB, which no file of avcil's is")
        return parse_json(path.read_bytes())
    except OSError as problem:
        raise error(f"{path.name}: {reason(problem)}") from problem
    except ValueError as problem:
        raise error(f"{path.name}: {problem}") from problem


@dataclass(eq=False)
class _Refused(Exception):
    """A value that is not as it should be: `say` gives the message for its name, which `path` leads to."""

    say: Callable[[str], str]
    path: tuple[str | int, ...] = ()


def _dotted(path: tuple[str | int, ...]) -> str:
    """`a.b[3]` of a path of names and positions."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:MAX_SHOWN]}" for part in path]
    return "".join(parts).removeprefix(".")


def _wrong(value: Any, expected: str) -> _Refused:
    return _Refused(lambda key: f"{f'{key} =' if key else 'found'} {shown(value)}; {expected}")


def shown(value: object) -> str:
    """A value as messages show it: on one line and not at length, however large or deep it is."""
    if isinstance(value, (list, tuple, Mapping)):
        return f"a {'table' if isinstance(value, Mapping) else 'list'} of length {len(value)}"
    if isinstance(value, int) and abs(value) >= MAX_WHOLE:
        return f"a number of {value.bit_length()} bits"
    return repr(value[:MAX_SHOWN] if isinstance(value, str) else value)


@cache
def _reader(hint: Any, finite: bool) -> Reader:
    """What checks a parsed value against a type hint and gives it in that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return _plain
    if origin in (Union, types.UnionType):
        return _optional(arguments, finite)
    if origin is Literal:
        return partial(_chosen, arguments)
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return partial(_tuple, tuple(_reader(one, finite) for one in arguments))
    if origin in (tuple, list):
        return partial(_sequence, origin, _reader(arguments[0], finite))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return partial(_mapping, *(_reader(one, finite) for one in arguments))
    if is_dataclass(hint):
        return partial(_dataclass, hint, finite)
    single: dict[Any, Reader] = {int: _whole, str: _text, float: partial(_number, finite)}
    return single.get(hint, partial(_instance, hint))


def _optional(hints: tuple[Any, ...], finite: bool) -> Reader:
    """One of the alternatives of a union: of one type and perhaps None, or of several sets of choices."""
    known = [one for one in hints if one is not types.NoneType]
    choices = [choice for one in known if get_origin(one) is Literal for choice in get_args(one)]
    inner = partial(_chosen, tuple(choices)) if len(known) > 1 and choices else _reader(known[0], finite)
    if len(known) == len(hints):
        return inner
    return lambda value: None if value is None else inner(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise _wrong(value, "expected int")
    if not -MAX_WHOLE < value < MAX_WHOLE:
        raise _wrong(value, "expected int of at most 64 bits")
    return value


def _number(finite: bool, value: Any) -> float:
    if type(value) is int:
        return float(_whole(value))
    if not isinstance(value, float) or (finite and not math.isfinite(value)):
        raise _wrong(value, "expected float" + (", a finite number" if finite else ""))
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(value, "expected str")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _wrong(value, f"expected valid Unicode ({error.reason})") from error
    return value


def _instance(hint: Any, value: Any) -> Any:
    kind = get_origin(hint) or hint
    if not isinstance(value, kind):
        raise _wrong(value, f"expected {kind.__name__}")
    return value


def _chosen(choices: tuple[Any, ...], value: Any) -> Any:
    if value not in choices:
        raise _wrong(value, f"choose one of {', '.join(map(str, choices))}")
    return value


def _sequence(kind: type[Any], inner: Reader, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(value, "expected a list")
    return kind(_inside(inner, one, number) for number, one in enumerate(value))


def _tuple(inner: tuple[Reader, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != len(inner):
        raise _wrong(value, f"expected a list of {len(inner)}")
    return tuple(_inside(inner[number], one, number) for number, one in enumerate(value))


def _mapping(read_key: Reader, read_value: Reader, value: Any) -> dict[Any, Any]:
    return {
        _inside(read_key, key, str(key)): _inside(read_value, one, str(key))
        for key, one in _table(value).items()
    }


def _dataclass(kind: Any, finite: bool, value: Any) -> Any:
    try:
        table = _table(kind.as_fields(value) if hasattr(kind, "as_fields") else value)
        readers, required, beside = _fields(kind, finite)
        for key in table:
            if key not in readers:
                raise _unknown(str(key), readers)
        if missing := [name for name in required if name not in table]:
            raise _Refused(lambda key: f"{key} is missing", (missing[0],))
        values = {
            key: readers[key](one) if key in beside else _inside(readers[key], one, key)
            for key, one in table.items()
        }
        return kind(**values)
    except AvcilError as error:
        message = str(error)
        raise _Refused(lambda key: message) from error


@cache
def _fields(kind: Any, finite: bool) -> tuple[dict[str, Reader], list[str], set[str]]:
    """The readers of the fields by name, which of them have to be there, and which are `BESIDE` others."""
    hints, own = get_type_hints(kind), fields(kind)
    required = [
        one.name
        for one in own
        if "stated" in one.metadata or (one.default is MISSING and one.default_factory is MISSING)
    ]
    beside = {one.name for one in own if "beside" in one.metadata}
    return {one.name: _reader(hints[one.name], finite) for one in own}, required, beside


def _unknown(key: str, known: Mapping[str, Any]) -> _Refused:
    near = difflib.get_close_matches(key[:MAX_SHOWN], known, n=1, cutoff=0.0)

    def say(name: str) -> str:
        remedy = (
            f"did you mean {name.removesuffix(key[:MAX_SHOWN]) + near[0]!r}?"
            if near
            else "there are none here"
        )
        return f"unknown key {name!r}; {remedy}"

    return _Refused(say, (key,))


def _table(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(value, "expected a table")
    return value


def _inside(read: Reader, value: Any, key: str | int) -> Any:
    try:
        return read(value)
    except _Refused as refused:
        refused.path = (key, *refused.path)
        raise


def _plain(value: Any, depth: int = 0) -> Any:
    """A value whose schema is not known, as it is: text, numbers, truth values, None, lists and tables."""
    if depth > MAX_DEPTH:
        raise _Refused(lambda key: f"{key[:MAX_SHOWN]} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for key, one in value.items():
            _inside(partial(_plain, depth=depth + 1), one, _text(key))
    elif isinstance(value, (list, tuple)):
        for number, one in enumerate(value):
            _inside(partial(_plain, depth=depth + 1), one, number)
    elif isinstance(value, str):
        _text(value)
    elif type(value) is int:
        _whole(value)
    elif not isinstance(value, (bool, float, types.NoneType)):
        raise _wrong(value, "expected a number, text, truth value, list or table")
    return value
