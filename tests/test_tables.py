"""Parsed tables as dataclasses: what is wrong is named by its place in the file, and shown shortly."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from avcil.errors import ConfigError, RunError
from avcil.tables import MAX_FILE_BYTES, STATED, from_table, parse_json, read_json


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    kind: Literal["a", "b"] = field(default="a", metadata=STATED)


@dataclass(frozen=True)
class Outer:
    count: int
    names: tuple[str, ...] = ()
    pair: tuple[int, int] = (0, 0)
    inner: dict[str, list[Inner]] = field(default_factory=dict)
    free: Any = None
    maybe: int | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError("count is negative")


def test_tables_become_what_their_hints_say() -> None:
    text = b'{"count": 3, "names": ["x"], "pair": [1, 2], "inner": {"k": [{"share": 1, "kind": "b"}]}}'
    found = from_table(Outer, parse_json(text), ConfigError)
    assert found == Outer(3, ("x",), (1, 2), {"k": [Inner(1.0, "b")]})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "file: top = a list of length 0; expected a table"),
        ({}, "file: top.count is missing"),
        ({"count": True}, "file: top.count = True; expected int"),
        ({"count": 10**40}, "file: top.count = a number of 133 bits; expected int of at most 64 bits"),
        ({"count": -1}, "file: count is negative"),
        ({"count": 1, "nams": 1}, "file: unknown key 'top.nams'; did you mean 'top.names'?"),
        ({"count": 1, "names": {"a": 1}}, "file: top.names = a table of length 1; expected a list"),
        ({"count": 1, "names": ["a", 2]}, "file: top.names[1] = 2; expected str"),
        ({"count": 1, "names": ["\ud800"]}, "expected valid Unicode"),
        ({"count": 1, "names": 7 * ["x"] + [list(range(9))]}, "top.names[7] = a list of length 9"),
        ({"count": 1, "pair": [1]}, "file: top.pair = a list of length 1; expected a list of 2"),
        ({"count": 1, "inner": {"k": [{"kind": "c"}]}}, "top.inner.k[0].kind = 'c'; choose one of a, b"),
        ({"count": 1, "inner": {"k": [{}]}}, "file: top.inner.k[0].kind is missing"),
        (
            {"count": 1, "inner": {"k": [{"kind": "a", "share": math.nan}]}},
            "share = nan; expected float, a finite",
        ),
        ({"count": 1, "free": {"a": [object()]}}, "expected a number, text, truth value, list or table"),
        ({"count": 1, "free": [2**70]}, "file: top.free[0] = a number of 71 bits"),
        ({"count": 1, "maybe": "x" * 10**6}, f"file: top.maybe = '{'x' * 80}'; expected int"),
        ({"count": 1, "y" * 10**6: 1}, "did you mean"),
    ],
)
def test_what_is_wrong_is_named(table: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_table(Outer, table, ConfigError, where="file", key="top")
    assert message in str(refused.value) and len(str(refused.value)) < 300


def test_depth_is_limited() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="nested more than 20 deep"):
        from_table(Outer, {"count": 1, "free": deep}, ConfigError)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(b"[" * 100_000)


def test_numbers_may_be_infinite_where_that_is_asked_for() -> None:
    table = {"share": math.inf, "kind": "a"}
    assert from_table(Inner, table, ConfigError, finite=False) == Inner(math.inf)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"9" * 5000, b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(RunError, match=r"^x\.json: not JSON"):
        read_json(tmp_path / "x.json", RunError)


def test_a_file_that_is_too_large_or_missing_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(RunError, match=r"^x\.json: larger than 64 MiB"):
        read_json(tmp_path / "x.json", RunError)
    with pytest.raises(RunError, match=r"^y\.json: No such file"):
        read_json(tmp_path / "y.json", RunError)
    (tmp_path / "z.json").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "z.json", RunError) == {"a": 1}
