"""Structural damage to the files of runs and caches: well-formed, with right checksums, and wrong inside."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avcil.cache import CacheInfo
from avcil.cache.checked_json import record_checksums
from avcil.cache.shard import USER_BLOCK_BYTES
from avcil.errors import CacheError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEEP, LONG, INFINITE = "@deep@", "@long@", "@infinite@"  # become texts that json.dumps does not write
RAW = {
    f'"{DEEP}"': "[" * 100_000 + "]" * 100_000,
    f'"{LONG}"': "9" * 5_000,
    f'"{INFINITE}"': "1e400",
}
ODD: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: 3,
    lambda: 10**9,
    lambda: -(2**63),
    lambda: 10**30,
    lambda: 0.5,
    lambda: 1e308,
    lambda: math.nan,
    lambda: -math.inf,
    lambda: "",
    lambda: "x",
    lambda: "\ud800",
    lambda: "a\0b\nc",
    lambda: "x" * 100_000,
    lambda: "../" * 40,
    lambda: [],
    lambda: {},
    lambda: [[]],
    lambda: {"x": 1},
    lambda: [1, 2, 3],
    lambda: ["a", "b"],
    lambda: list(range(20_000)),
    lambda: nested(30),
    lambda: nested(400),
    lambda: DEEP,
    lambda: LONG,
    lambda: INFINITE,
]


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def damaged(value: Any, draw: random.Random) -> Any:
    """A copy of a parsed table that is changed somewhere: its root seldom, all other depths alike."""
    value = deepcopy(value)
    if not isinstance(value, (dict, list)) or not value or draw.random() < 0.02:
        return draw.choice(ODD)()
    holder = value
    while (inner := [one for one in _values(holder) if isinstance(one, (dict, list)) and one]) and (
        draw.random() < 0.6
    ):
        holder = draw.choice(inner)
    draw.choice([_replace, _replace, _replace, _remove, _repeat, _rename, _wrap, _scale, _swap])(holder, draw)
    return value


def _values(holder: Any) -> list[Any]:
    return list(holder.values()) if isinstance(holder, dict) else holder


def _key(holder: Any, draw: random.Random) -> Any:
    return draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))


def _replace(holder: Any, draw: random.Random) -> None:
    holder[_key(holder, draw)] = draw.choice(ODD)()


def _remove(holder: Any, draw: random.Random) -> None:
    del holder[_key(holder, draw)]


def _repeat(holder: Any, draw: random.Random) -> None:
    key = _key(holder, draw)
    if isinstance(holder, list):
        holder.extend([holder[key]] * draw.choice([1, 100]))
    else:
        holder[key] = [holder[key]] * draw.choice([1, 3])


def _rename(holder: Any, draw: random.Random) -> None:
    if isinstance(holder, dict):
        holder[draw.choice(["x", "", "y" * 100_000, "format"])] = holder.pop(_key(holder, draw))
    else:
        draw.shuffle(holder)


def _wrap(holder: Any, draw: random.Random) -> None:
    key = _key(holder, draw)
    holder[key] = draw.choice([[holder[key]], {"value": holder[key]}, str(holder[key])])


def _scale(holder: Any, draw: random.Random) -> None:
    key, factor = _key(holder, draw), draw.choice([0, -1, 2, 0.5, 10**6, 10**9])
    holder[key] = holder[key] * factor if isinstance(holder[key], (int, float)) else factor


def _swap(holder: Any, draw: random.Random) -> None:
    one, two = _key(holder, draw), _key(holder, draw)
    holder[one], holder[two] = holder[two], holder[one]


def json_text(value: Any) -> bytes:
    text = json.dumps(value, indent=1)
    for placeholder, raw in RAW.items():
        text = text.replace(placeholder, raw)
    return text.encode("ascii")


def sealed(members: Any, size: int = 0) -> bytes:
    """A JSON object with a checksum that is right, filled up to a size."""
    text = json_text(members)
    if not isinstance(members, dict):
        return text
    data = (b'{\n  "checksum": "00000000"' + (b"," if members else b"") + text[1:]).ljust(size - 1) + b"\n"
    return data.replace(b"00000000", b"%08x" % zlib.crc32(data), 1)


def damage_json(path: Path, draw: random.Random) -> None:
    path.write_bytes(json_text(damaged(json.loads(path.read_bytes()), draw)))


def damage_lines(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines()
    number = draw.randrange(len(lines))
    lines[number] = json_text(damaged(json.loads(lines[number]), draw)).replace(b"\n", b"")
    path.write_bytes(b"\n".join(lines) + b"\n")


def damage_info(path: Path, draw: random.Random) -> None:
    members = json.loads(path.read_bytes())
    del members["checksum"]
    members = damaged(members, draw)
    if isinstance(members, dict) and draw.random() < 0.6:  # a shape that its own identity confirms
        own = {key: members[key] for key in members.keys() - {"format", "schema_version", "identity"}}
        with suppress(CacheError):
            members["identity"] = CacheInfo.from_content(own).identity
    path.write_bytes(sealed(members))


def damage_shard(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    members = json.loads(data[:USER_BLOCK_BYTES])
    del members["checksum"]
    block = sealed(damaged(members, draw), USER_BLOCK_BYTES)
    path.write_bytes(block[:USER_BLOCK_BYTES].ljust(USER_BLOCK_BYTES) + data[USER_BLOCK_BYTES:])


def damage_table(path: Path, draw: random.Random) -> None:
    header, *rows = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
    records = [row[:-1] for row in rows]
    record = draw.choice(records)
    odd = ["", "x", "a\0b", "y" * 9_000, "z" * 200_000, "\r\n", "-1", "💥", '"', "train", *map(str, record)]
    change = draw.randrange(5)
    if change == 0:
        record[draw.randrange(len(record))] = draw.choice(odd)
    elif change == 1:
        record.append(draw.choice(odd))
    elif change == 2:
        del record[draw.randrange(len(record))]
    elif change == 3:
        records += [list(record)] * draw.choice([1, 1000])
    else:
        draw.choice([header, records]).pop()
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(header)
    table.writerows([*one, crc] for one, crc in zip(records, record_checksums(records), strict=True))
    path.write_bytes(text.getvalue().encode())


def damage_log(path: Path, draw: random.Random) -> None:
    flag = damaged(["clip", "missing-audio"], draw)
    if isinstance(flag, list):
        flag = [*flag, *record_checksums([[str(one) for one in flag]])] if draw.random() < 0.8 else flag
    try:
        line = json_text(flag).replace(b"\n", b"")
    except UnicodeEncodeError:
        line = b"[]"
    path.write_bytes(line + b"\n")


def damage_tensors(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]
    if draw.random() < 0.1:
        path.write_bytes(draw.choice([0, 2**31, 2**63, len(data)]).to_bytes(8, "little") + data[8:])
        return
    if header and draw.random() < 0.3:  # of another type or shape, and still as many bytes
        one = draw.choice(list(header.values()))
        one["dtype"], factor = draw.choice([("F16", 2), ("I32", 1), ("U8", 4), ("BF16", 2), ("C64", 0.5)])
        one["shape"] = (
            draw.choice(
                [
                    [*one["shape"][:-1], int(one["shape"][-1] * factor)],
                    [int(math.prod(one["shape"]) * factor)],
                ]
            )
            if one["shape"]
            else one["shape"]
        )
    else:
        header = damaged(header, draw)
    text = json_text(header)
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)


def damage_toml(path: Path, draw: random.Random) -> None:
    table = damaged(tomllib.loads(path.read_text(encoding="utf-8")), draw)
    path.write_bytes(_toml(table, "").encode("utf-8", "replace"))


def _toml(table: Any, name: str) -> str:
    if not isinstance(table, dict):
        return f"x = {_toml_value(table)}\n"
    tables = {key: one for key, one in table.items() if isinstance(one, dict) and not name}
    lines = [f"{json.dumps(key)} = {_toml_value(one)}\n" for key, one in table.items() if key not in tables]
    return "".join(lines) + "".join(f"[{json.dumps(key)}]\n{_toml(one, key)}" for key, one in tables.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    special = {DEEP: RAW[f'"{DEEP}"'], LONG: RAW[f'"{LONG}"'], INFINITE: "inf", None: "0x" + "f" * 6_000}
    if value is None or isinstance(value, str):
        return special.get(value) or json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return str(value).lower()


@dataclass(frozen=True)
class Target:
    """A file (a pattern below the folder of run and cache), how it is damaged, and who reads it."""

    pattern: str
    damage: Callable[[Path, random.Random], None]
    weight: int


TARGETS = [
    Target("run*/run.json", damage_json, 10),
    Target("run*/config.toml", damage_toml, 8),
    Target("run*/step-*/record.json", damage_json, 10),
    Target("run*/step-*/model.safetensors", damage_tensors, 5),
    Target("run*/step-*/head.safetensors", damage_tensors, 4),
    Target("run*/state.json", damage_json, 2),
    Target("run*/results.json", damage_json, 1),
    Target("run*/events.jsonl", damage_lines, 1),
    Target("cache/cache.json", damage_info, 8),
    Target("cache/shard-*.h5", damage_shard, 6),
    Target("cache/manifest.csv", damage_table, 3),
    Target("cache/failures.csv", damage_table, 2),
    Target("cache/flags.csv", damage_table, 2),
    Target("cache/flags.log", damage_log, 2),
]
