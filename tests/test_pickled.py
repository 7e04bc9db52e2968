"""Pickled plain data comes out as numpy and pickle would give it; everything else is refused by name."""

import io
import os
import pickle
import random
import struct
import time
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avcil import pickled
from avcil.errors import CacheError
from avcil.pickled import read_npy_object, read_plain

PLAIN: list[Any] = [
    None,
    True,
    -1,
    2**40,
    -(2**100),
    1.5,
    "é\n😀",
    b"\0\xff",
    [],
    (),
    {},
    {"a": [1, (2, "x"), {"b": {1, 2}}], 3: "c", None: b""},
    [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    {"splits": {split: {n: [f"{split}{n}{i}" for i in range(300)] for n in range(3)} for split in "ab"}},
]


def read(data: bytes) -> object:
    return read_plain(io.BytesIO(data))


def refusal(data: bytes) -> str:
    with pytest.raises(CacheError) as caught:
        read(data)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_as_pickle_gives_it(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if protocol == 0 and ("{1, 2}" in repr(value) or "b''" in repr(value) or value == b"\0\xff"):
        return  # protocol 0 writes these as calls of copyreg
    assert read(data) == value and type(read(data)) is type(value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_scalars_become_plain(protocol: int) -> None:
    numbers = [
        np.int64(-5),
        np.uint8(200),
        np.float32(0.5),
        np.float16(2),
        np.bool_(True),
        np.str_("é"),
        np.bytes_(b"x"),
    ]
    numbers += [np.dtype(">i4").type(7)]
    found = read(pickle.dumps({1: numbers, np.int64(3): "x"}, protocol))
    assert found == {1: [-5, 200, 0.5, 2.0, True, "é", b"x", 7], 3: "x"}
    assert all(type(value).__module__ == "builtins" for value in found[1])  # type: ignore[index]


def test_npy_files(tmp_path: Path) -> None:
    value = {"train": {np.int64(1): ["a", "b"]}, "val": {}}
    np.save(tmp_path / "single.npy", value, allow_pickle=True)  # type: ignore[arg-type]
    assert read_npy_object(tmp_path / "single.npy") == value
    np.save(tmp_path / "list.npy", np.array([None, "x"], dtype=object), allow_pickle=True)
    with pytest.raises(CacheError, match=r"list.npy: holds an array of type '\|O' and shape \(2,\)"):
        read_npy_object(tmp_path / "list.npy")


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Call(os.system, "touch HERE"), "system'"),
        (Call(eval, "open('HERE', 'w')"), "eval'"),
        (Call(exec, "open('HERE', 'w')"), "exec'"),
        (Call(getattr, os, "system"), ""),
        (Call(bytearray, 10), "bytearray'"),
        (Call(np.fromfile, "HERE"), "fromfile'"),
        (Call(np.zeros, 10**12), "zeros'"),
        (OrderedDict(a=1), "collections.OrderedDict'"),
        (Fraction(1, 2), "fractions.Fraction'"),
        (Path("x"), "Posix"),
        (np.arange(3), ""),
        ([np.ndarray], ""),
        ({"k": np.dtype("f4")}, ""),
        (complex(1, 2), "complex'"),
        (slice(1), "slice'"),
    ],
    ids=lambda value: getattr(value, "__class__", type(value)).__name__,
)
def test_names_are_refused(
    value: Any, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        data = pickle.dumps({"train": [value]}, protocol)
    except (TypeError, pickle.PicklingError):
        return  # a module cannot be pickled
    text = refusal(data)
    assert named in text and "refused" in text
    assert list(tmp_path.iterdir()) == []


def npcall(name: bytes, arguments: bytes) -> bytes:
    return b"\x80\x03cnumpy.core.multiarray\n" + name + b"\n" + arguments + b"R."


RECONSTRUCT = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\0\0\0O8\x89\x88\x87R"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short"),
        (b"N", "cut short"),
        (b".", "damaged: pop from empty list"),
        (b"(.", "damaged: pop from empty list"),
        (b"NN.", "left over"),
        (b"\x80\xff.", "unsupported pickle protocol: 255"),
        (b"\x8d" + b"\xff" * 7 + b"\x0f", "cut short"),
        (b"X\xff\xff\xff\x7fabc", "2147483647 bytes announced, 3 there"),
        (b"\x8b\xff\xff\xff\x7f", "2147483647 bytes announced, 0 there"),
        (b"\x8b\x70\x11\x01\0" + b"\x01" * 70_000 + b".", "refused: a number of 70000 bytes"),
        (b"\x8b\xff\xff\xff\xff", "damaged: LONG pickle has negative byte count"),
        (b"I" + b"9" * 50 + b"\n.", "a number of 167 bits"),
        (b"I" + b"9" * 70_000, "a line without end"),
        (b"X\x01\0\0\0\xff.", "damaged"),
        (b"h\x05.", "Memo value not found at index 5"),
        (b"gx\n.", "damaged: invalid literal for int()"),
        (b"]q\0h\0a.", "the same list in two places"),
        (b"]\x94}(K\x01h\0u.", "the same list in two places"),
        (b"(K\x01tq\0h\0\x86.", "the same tuple in two places"),
        (b"]2\x86.", "refused: DUP"),
        (b"}K\x01\x85K\x01s.", "a tuple as a key"),
        (b"}]K\x01s.", "a list as a key"),
        (b"\x8f(K\x01\x85\x90.", "a tuple as a key"),
        (b"}K\x01a.", "damaged: '_Dict' object has no attribute 'append'"),
        (b"]K\x01K\x02s.", "damaged: list assignment index"),
        (b"](K\x01\x90.", "damaged: 'list' object has no attribute 'add'"),
        (b"}(K\x01u.", "damaged: list index out of range"),
        (b"e.", "damaged: pop from empty list"),
        (b"(ios\nsystem\n.", "refused: INST"),
        (b"cos\nsystem\n.", "it names 'os.system'"),
        (b"\x8c\x02os\x8c\x06system\x93.", "it names 'os.system'"),
        (b"\x8c\x08builtins\x8c\rset.__class__\x93.", "it names 'builtins.set.__class__'"),
        (b"c" + b"a" * 300 + b"\nb\xc2\x85\n.", "..."),
        (b"K\x01\x93.", "damaged: pop from empty list"),
        (b"K\x01K\x02\x93.", "damaged: STACK_GLOBAL requires str"),
        (b"K\x01)R.", "it calls a int"),
        (b"cbuiltins\nset\n.", "it holds a name, builtins.set"),
        (b"cbuiltins\nset\n\x85.", "it holds a name, builtins.set"),
        (b"cbuiltins\nset\n)\x81.", "refused: NEWOBJ;"),
        (b"cbuiltins\nset\n))\x92.", "refused: NEWOBJ_EX;"),
        (b"(cbuiltins\nset\no.", "refused: OBJ;"),
        (b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.", "builtins.bytes is called with other than plain data"),
        (b"cbuiltins\nset\n]]a\x85R.", "a list as a key or a member of a set"),
        (b"Pfile\n.", "refused: PERSID;"),
        (b"K\x01Q.", "refused: BINPERSID;"),
        (b"\x82\x01.", "refused: EXT1;"),
        (b"\x96" + b"\xff" * 8, "cut short"),
        (b"\x97.", "refused: NEXT_BUFFER;"),
        (b"\xfe.", "unknown opcode"),
        (b"}}b.", "it sets the state of a dict"),
        (npcall(b"_reconstruct", b")"), "multiarray._reconstruct is called with other"),
        (npcall(b"_reconstruct", b"cbuiltins\nset\nK\0\x85C\x01b\x87"), "is called with other"),
        (npcall(b"_reconstruct", b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87"), "is called with"),
        (npcall(b"scalar", DTYPE + b"C\x01b\x86"), "a numpy value of type 'O8'"),
        (npcall(b"scalar", b"K\x01K\x01\x86"), "a numpy value of type '?'"),
        (npcall(b"scalar", b"cnumpy\ndtype\nX\x04\0\0\0U999\x85RC\x01b\x86"), "a numpy value of type 'U999'"),
        (RECONSTRUCT + b".", "an array without content"),
        (RECONSTRUCT + b"(K\x01)" + DTYPE + b"\x89]tb.", "more than one axis"),
        (RECONSTRUCT + b"(K\x01J\xff\xff\xff\x7f\x85" + DTYPE + b"\x89]tb.", "more than one axis"),
        (RECONSTRUCT + b"(K\x01)cnumpy\ndtype\nX\x02\0\0\0f8\x85R\x89C\x08aaaaaaaatb.", "of type '<f8'"),
        (RECONSTRUCT + b"(K\x01)" + DTYPE + b"\x89]K\x01atb" + b"}b.", "damaged: _Wrapper.set_state()"),
        (RECONSTRUCT + b"q\x07h\x07.", "the same numpy array in two places"),
        (b"]" * 50 + b"a" * 49 + b".", "nested deeper than 16"),
        (b")" + b"\x85" * 100_000 + b".", "nested deeper than 16"),
        (b"S'a\\x41'\n.", "refused: STRING;"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_abuse_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_reading_stops_where_there_are_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MAX_STEPS", 100_000)
    file = io.BytesIO(b"]" * 200_000)
    with pytest.raises(CacheError, match="more than 100000 values"):
        read_plain(file)
    assert file.tell() == 100_001


def test_a_text_that_is_converted_again_and_again_is_counted() -> None:
    """Else a small file would fill the memory: every conversion makes new bytes."""
    text = b"X\x00\x20\0\0" + b"a" * 8192
    again = b"h\0h\x01h\x02\x86R"
    data = b"(c_codecs\nencode\nq\0" + text + b"q\x01X\x06\0\0\0latin1q\x02" + again * 70_000 + b"t."
    assert len(data) < 10**6
    with pytest.raises(CacheError, match="more than 8000000 values"):
        read(data)


def test_a_million_references_stay_references() -> None:
    text = b"X\x05\0\0\0abcdeq\0"
    found = read(b"](" + text + b"h\0" * 1_000_000 + b"e.")
    assert isinstance(found, list) and len(found) == 1_000_001 and found[0] is found[-1]


def test_random_damage_is_an_error_or_plain_data(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", {"train": {np.int64(1): ["a", "b"], 2: ["c"]}}, allow_pickle=True)  # type: ignore[arg-type]
    whole = (tmp_path / "a.npy").read_bytes()
    draw = random.Random(0)
    began_s = time.monotonic()
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "b.npy").write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        try:
            value = read_npy_object(tmp_path / "b.npy")
        except CacheError as error:
            assert "b.npy" in str(error) and "\n" not in str(error)
        else:
            assert isinstance(repr(value), str)
    assert time.monotonic() - began_s < 30


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a .npy file"),
        (b"PK\x03\x04", "not a .npy file"),
        (b"\x93NUMPY\x07\0", "not a .npy file"),
        (b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1), "damaged .npy header"),
        (b"\x93NUMPY\x01\0\x05\0__imp", "damaged .npy header"),
    ],
)
def test_other_files(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(CacheError, match=words):
        read_npy_object(tmp_path / "x.npy")


def test_bytes_after_the_end_and_number_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", {}, allow_pickle=True)  # type: ignore[arg-type]
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes() + b"x")
    with pytest.raises(CacheError, match="after its end"):
        read_npy_object(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", np.zeros(3))
    with pytest.raises(CacheError, match="type '<f8'"):
        read_npy_object(tmp_path / "y.npy")
    with pytest.raises(CacheError, match="cannot be read"):
        read_npy_object(tmp_path / "nowhere.npy")
