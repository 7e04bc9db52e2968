"""docs/cache-format.md is true: its reader reads a cache, its checksums come out, h5dump opens a shard."""

import csv
import hashlib
import json
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import avcil
from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache, TokenSpec

DOCUMENT = (Path(avcil.__file__).parent / "docs/cache-format.md").read_text(encoding="utf-8")


@pytest.fixture(params=["float16", "float32", "int8"])
def path(request: pytest.FixtureRequest, tmp_path: Path, info: CacheInfo) -> Path:
    """Two shards, odd ids and labels, a row that is not written, a failure and a flag."""
    clips = [CacheClip(text, f"{text}, it's", "train") for text in ("a", 'b"\n', "é😀", "d", "last")]
    rng = np.random.default_rng(0)
    for part in (clips[:2], clips[2:]):
        with CacheWriter.open(
            tmp_path / "c", replace(info, visual=TokenSpec((2, 3, 5), request.param)), part
        ) as writer:
            ids = [clip.id for clip in part if clip.id != "last"]
            writer.write(ids, rng.standard_normal((2, 2, 3, 5)), rng.standard_normal((2, 5)))
            writer.record_failure("last", "corrupt", "cut short") if part[-1].id == "last" else None
            writer.record_flags({ids[0]: "missing-audio"})
    return tmp_path / "c"


def test_the_reader_of_the_document_reads_a_cache(path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert "avcil" not in code.replace("avcil-tokens", "")
    names: dict[str, Any] = {}
    exec(code, names)
    cache = TokenCache(path)
    rows = list(names["read_cache"](path))
    assert [row[:3] for row in rows] == [(clip.id, clip.label, clip.split) for clip in cache.present()]
    for clip_id, _, _, visual, audio in rows:
        tokens = cache.read([clip_id])
        np.testing.assert_array_equal(
            visual, tokens.visual[0] if tokens.visual_scale is None else tokens.widened()[0]
        )
        np.testing.assert_array_equal(audio, tokens.audio[0])


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def test_the_identity_is_as_documented(info: CacheInfo) -> None:
    recipe = {"name": "ü😀", "a": {"b": [1, 2.0, {}], "c": {}}, "d": None, "e": True}
    members = replace(info, recipe=recipe, precision="fp16").content()
    named = {name: leaf for name, leaf in leaves(members) if "_encoder.weights." not in name}
    text = ", ".join(f"{json.dumps(name)}: {json.dumps(named[name])}" for name in sorted(named))
    assert info.from_content(members).identity == hashlib.sha256(f"{{{text}}}".encode("ascii")).hexdigest()


def zeroed_crc(data: bytes) -> str:
    assert data[:17] == b'{\n  "checksum": "' and re.fullmatch(rb"[0-9a-f]{8}", data[17:25])
    return f"{zlib.crc32(data[:17] + b'00000000' + data[25:]):08x}"


def running_crcs(rows: list[list[str]]) -> Iterator[str]:
    crc = zlib.crc32(str(len(rows)).encode())
    for row in rows:
        for field in row:
            crc = zlib.crc32(field.encode() + b"\0", crc)
        yield f"{crc:08x}"


def test_the_small_files_are_as_documented(path: Path) -> None:
    data = (path / "cache.json").read_bytes()
    assert json.loads(data)["checksum"] == zeroed_crc(data)
    for name, columns in re.findall(r"`(\w+\.csv)`[^`]{0,3}\(`([\w,]+)`\)", DOCUMENT):
        with (path / name).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        assert ",".join(header) == columns and rows
        assert [row[-1] for row in rows] == list(running_crcs([row[:-1] for row in rows]))


def test_the_user_block_is_as_documented(path: Path) -> None:
    identity = json.loads((path / "cache.json").read_bytes())["identity"]
    for shard in sorted(path.glob("shard-*.h5")):
        data = shard.read_bytes()
        block = json.loads(data[:2048])
        assert block["checksum"] == zeroed_crc(data[:2048]) and block["identity"] == identity
        assert block["format"] == "avcil-shard" and block["size_bytes"] == len(data)
        structure = bytearray(data)
        with h5py.File(shard, "r") as file:
            assert file.userblock_size == 2048 and block["offsets"].keys() == file.keys()
            places = [(file[name].id.get_offset(), file[name].id.get_storage_size(), name) for name in file]
            assert {name: start for start, _, name in places} == block["offsets"]
            assert file["crc32"].shape == (block["rows"],) and block["offsets"]["crc32"] % 4 == 0
            for row, stored in enumerate(file["id"]):
                audio_crc = zlib.crc32(stored + file["audio"][row].tobytes()) or 1
                assert file["audio_crc32"][row] == (audio_crc if file["crc32"][row] else 0)
        for start, size, name in sorted(places, reverse=True):
            if name != "id":
                del structure[start : start + size]
        assert block["structure_crc32"] == f"{zlib.crc32(structure[2048:]):08x}"


def test_the_worked_examples_come_out() -> None:
    lines = re.search(r"id,label,split,source,crc32\n(.*?)\n(.*?)\n", DOCUMENT)
    assert lines is not None
    rows = [line.split(",") for line in lines.groups()]
    assert [row[-1] for row in rows] == list(running_crcs([row[:-1] for row in rows]))
    flag = re.search(r'`\["(.*?)", "(.*?)", "(\w{8})"\]`', DOCUMENT)
    assert flag is not None
    assert [flag[3]] == list(running_crcs([[flag[1], flag[2]]]))
    example = re.search(
        r"`([0-9a-f ]+)` `([0-9a-f ]+)` `([0-9a-f ]+)`: `crc32` is `(\w+)`.*`(\w+)`\.\n", DOCUMENT
    )
    assert example is not None
    clip_id, visual, audio = (bytes.fromhex(part) for part in example.groups()[:3])
    assert (clip_id, visual, audio) == (b"cat", struct.pack("<ee", 1, -2), struct.pack("<f", 0.5))
    assert example[4] == f"{zlib.crc32(clip_id + visual + audio):08x}"
    assert example[5] == f"{zlib.crc32(clip_id + audio):08x}"


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed")
def test_h5dump_reads_a_shard(path: Path) -> None:
    done = subprocess.run(
        ["h5dump", "-d", "/id", path / "shard-00000.h5"], capture_output=True, text=True, check=True
    )
    assert "H5T_CSET_UTF8" in done.stdout and '"a' in done.stdout
