"""Texts with their own checksum: any change is noticed, versions are told apart."""

import json
import zlib

import pytest

from avcil.cache.checked_json import decode_checked, encode_checked, record_checksums
from avcil.errors import CacheError

CONTENT = {"a": [1, 2.5, "é"], "b": {"checksum": "00000000"}}


@pytest.mark.parametrize("size", [0, 512])
def test_content_comes_back(size: int) -> None:
    data = encode_checked("x", CONTENT, size)
    assert decode_checked(data, "x") == CONTENT and len(data) == (size or len(data))
    assert data == encode_checked("x", dict(reversed(CONTENT.items())), size)
    assert json.loads(data)["b"] == CONTENT["b"]


def test_every_flipped_bit_is_noticed() -> None:
    data = encode_checked("x", CONTENT, 256)
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            with pytest.raises(CacheError):
                decode_checked(bytes(flipped), "x")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null", '{"format": "other"}'])
def test_what_is_not_the_object_is_refused(text: str) -> None:
    with pytest.raises(CacheError, match="not"):
        decode_checked(text.encode(), "x")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("99", "version 99; this avcil reads versions 2, 3 and 4: upgrade"),
        ("1", "extract again into"),
        ('"4"', "whole"),
    ],
)
def test_versions_are_told_apart(version: str, message: str) -> None:
    text = encode_checked("x", CONTENT).replace(
        b'"schema_version": 4', f'"schema_version": {version}'.encode()
    )
    with pytest.raises(CacheError, match=message):
        decode_checked(text, "x")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CacheError, match=r"needs .* bytes, there is room for 63"):
        encode_checked("x", CONTENT, 64)


def test_records_cannot_be_changed_moved_added_or_taken_away() -> None:
    records = [["a", "b"], ["c", ""], ["", "d"]]
    changes = [records[:2], records[1:], [records[1], records[0], records[2]], [["ab", ""], *records[1:]]]
    whole = list(record_checksums(records))
    for changed in changes:
        assert any(crc not in whole for crc in record_checksums(changed))
    assert int(whole[0], 16) == zlib.crc32(b"3a\0b\0")
