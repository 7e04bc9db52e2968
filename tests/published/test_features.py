"""Pickled arrays come out as pickle would give them, without being held; everything else is refused."""

import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.released_files import as_npy, as_numpy_1, wrapped

from avcil.errors import CacheError
from avcil.pickled import KEPT_BYTES, Span
from avcil.published.features import Hdf5Features, PickledFeatures, open_features

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "long": RNG.standard_normal((40, 24)).astype("f4"),
    "é😀": RNG.standard_normal((40, 24)).astype("f4"),
    "short": np.arange(6, dtype="f4").reshape(2, 3),
    "high bytes": np.full(1000, np.frombuffer(b"\xff\x80\xc3\x28", "f4")[0]),
    "by columns": np.asfortranarray(RNG.standard_normal((40, 30)).astype("f2")),
    "big-endian": RNG.standard_normal(300).astype(">f8"),
    "numbers": np.arange(-500, 500),
    "frozen": RNG.standard_normal(500).astype("f4"),
    "one": np.array(2.5),
    "empty": np.zeros((0, 768), "f4"),
    "slice": RNG.standard_normal((60, 24)).astype("f4")[::3, 1:],
}
ARRAYS["frozen"].setflags(write=False)
ARRAYS["again"] = ARRAYS["long"]
ARRAYS |= {f"clip{i}": np.full(300, i, "f4") for i in range(2100)}  # more than two batches of SETITEMS


def opened(path: Path, data: bytes) -> PickledFeatures:
    path.write_bytes(data)
    features = open_features(path)
    assert isinstance(features, PickledFeatures)
    return features


def refusal(path: Path, data: bytes) -> str:
    with pytest.raises(CacheError) as caught:
        opened(path, data)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("is_npy", [False, True])
@pytest.mark.parametrize("is_numpy_1", [False, True])
def test_arrays_as_pickle_gives_them(protocol: int, is_npy: bool, is_numpy_1: bool, tmp_path: Path) -> None:
    data = pickle.dumps(wrapped(ARRAYS) if is_npy else ARRAYS, protocol)
    data = as_npy(data) if is_npy else data
    renamed = as_numpy_1(data)
    assert renamed != data
    features = opened(tmp_path / "a.npy", renamed if is_numpy_1 else data)
    assert list(features.ids) == list(ARRAYS)
    for name in reversed(ARRAYS):
        found, want = features.read(name), ARRAYS[name]
        assert found.dtype == want.dtype and features.shape(name) == found.shape == want.shape
        assert found.tobytes() == want.tobytes()
    features.close()


def test_np_save_as_it_writes_now(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", wrapped(ARRAYS), allow_pickle=True)
    features = open_features(tmp_path / "a.npy")
    assert all(features.read(name).tobytes() == array.tobytes() for name, array in ARRAYS.items())
    features.close()


def test_the_walk_holds_no_long_array(tmp_path: Path) -> None:
    for protocol in PROTOCOLS:
        features = opened(tmp_path / "a.npy", pickle.dumps(ARRAYS, protocol))
        for array in features._arrays.values():
            assert isinstance(array.content, Span) or len(array.content) <= KEPT_BYTES
        features.close()


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


class Vector(np.ndarray):
    pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Call(os.system, "touch HERE"), "it names 'posix.system'"),
        (Call(eval, "open('HERE', 'w')"), "eval'"),
        (Call(np.fromfile, "HERE"), "fromfile'"),
        (Call(np.memmap, "HERE", "f4", "w+", 0, (4,)), "memmap'"),
        (np.zeros(3, [("a", "f4")]), "refused"),
        (np.zeros(3, "M8[s]"), "refused"),
        (np.zeros(3, "c8"), "refused"),
        (np.zeros(3, "U5"), "refused"),
        (np.zeros(500).view(Vector), "Vector'"),
        ({"nested": np.zeros(3)}, "is a dict, not an array"),
        ([np.zeros(3)], "is a list, not an array"),
        ("x" * 2000, "2000 bytes that are no array's"),
        (b"x" * 2000, "bytes that are no array's"),
        (np.float32(1), "is a float, not an array"),
        (None, "is a NoneType, not an array"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_else_is_refused(
    value: Any, words: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = np.zeros(4000, "f4")
    text = refusal(tmp_path / "a.npy", pickle.dumps({"a": good, "key": value, "z": good}, protocol))
    assert words in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_wherever_a_file_ends_it_is_cut_short(protocol: int, tmp_path: Path) -> None:
    data = as_npy(pickle.dumps(wrapped({f"clip{i}": np.ones(700, "f4") for i in range(3)}), protocol))
    for end in (*range(0, len(data), 97), len(data) - 1):
        assert refusal(tmp_path / "a.npy", data[:end])
    assert "cut short" in refusal(tmp_path / "a.npy", data[: len(data) // 2])
    assert "bytes after its end" in refusal(tmp_path / "a.npy", data + b"x")


def array_of(shape: bytes, n: int, code: bytes = b"f4", content: bytes = b"") -> bytes:
    """{"k": array} in protocol 3 that says `shape` and has n bytes, 0 unless given."""
    start = b"\x80\x03}X\x01\0\0\0kcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\nX" + struct.pack("<I", len(code)) + code + b"\x89\x88\x87R"
    return (
        start + b"(K\x01" + shape + dtype + b"\x89B" + struct.pack("<I", n) + (content or b"\0" * n) + b"tbs."
    )


@pytest.mark.parametrize("n", [1, 500])
def test_pickles_of_python_2(n: int, tmp_path: Path) -> None:
    """It wrote bytes as its own kind of text."""
    want = np.full(n, 2.5, "f4")
    for data, array in (
        (array_of(b"M" + struct.pack("<H", n) + b"\x85", 4 * n), np.zeros(n, "f4")),
        (array_of(b"M" + struct.pack("<H", n) + b"\x85", 4 * n, content=want.tobytes()), want),
    ):
        written = data.replace(b"\x89B" + struct.pack("<I", 4 * n), b"\x89T" + struct.pack("<I", 4 * n))
        assert written != data
        features = opened(tmp_path / "a.npy", written)
        assert features.read("k").tobytes() == array.tobytes()
        features.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (array_of(b"K\x02\x85", 12), "an array of 8 bytes with 12"),
        (array_of(b"J\xff\xff\xff\x7f\x85", 4000), "an array of 8589934588 bytes with 4000"),
        (array_of(b"J\xff\xff\xff\xff\x85", 4), "the shape of an array"),
        (array_of(b"X\x01\0\0\0x\x85", 4), "the shape of an array"),
        (array_of(b"\x8a\x09" + b"\xff" * 8 + b"\0K\0\x86", 0), "the shape of an array"),
        (array_of(b"K\x01" * 40 + b"t", 4), "damaged"),
        (array_of(b"(" + b"K\x01" * 40 + b"t", 4), "the shape of an array"),
        (array_of(b"K\x01\x85", 16, b"f16"), "array of type 'f16'"),
        (array_of(b"K\x01\x85", 4, b"O"), "more than one axis"),
        (b"\x80\x03}X\xd0\x07\0\0" + b"k" * 2000 + b"K\x01s.", "2000 bytes that are no array's as a key"),
        (b"\x80\x03].", "it holds a list, not a dict"),
        (b"\x80\x03}C\x01kK\x01s.", "is a int, not an array under a text"),
        (b"\x80\x03B\xff\xff\xff\x7f", "cut short: 2147483647 bytes announced, 0 there"),
        (b"\x80\x03\x8e" + b"\xff" * 8, "cut short"),
        (b"PK\x03\x04", "not a .npy file"),
        (b"", "not a .npy file"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_abuse_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path / "a.npy", data)


def test_random_damage_is_an_error_or_arrays(tmp_path: Path) -> None:
    draw = random.Random(0)
    wholes = [pickle.dumps({"a": np.ones(300, "f4"), "b": np.ones((2, 3))}, p) for p in PROTOCOLS]
    for i in range(2000):
        data = bytearray(wholes[i % len(wholes)])
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            features = opened(tmp_path / "a.npy", bytes(data))
        except CacheError as error:
            assert "\n" not in str(error)
            continue
        for name in features.ids:
            try:
                assert features.read(name).shape == features.shape(name)
            except CacheError as error:
                assert str(tmp_path) in str(error)
        features.close()


def test_of_hdf5_only_the_file_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.zeros(4, "f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["good"] = ARRAYS["long"]
        file["link"] = h5py.ExternalLink("other.h5", "x")
        file["soft"] = h5py.SoftLink("/good")
        file.create_group("group")
        file.create_dataset("raw", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        file.create_virtual_dataset("virtual", layout)
    features = open_features(tmp_path / "a.h5")
    assert isinstance(features, Hdf5Features) and len(features.ids) == 6
    assert features.read("good").tobytes() == ARRAYS["long"].tobytes()
    for name in set(features.ids) - {"good"}:
        with pytest.raises(CacheError, match=f"'{name}' is no dataset of this file"):
            features.read(name)
    features.close()


def test_a_cut_hdf5_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["good"] = ARRAYS["long"]
    data = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(CacheError, match=r"a.h5 is damaged or cut short"):
        open_features(tmp_path / "a.h5")
    with pytest.raises(CacheError, match="cannot be read"):
        open_features(tmp_path / "nowhere")
