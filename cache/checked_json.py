"""Texts that carry their own checksum: JSON objects, and the records of tables.

A JSON object begins with the member `checksum`: the CRC-32 of all its bytes, taken while these eight
hexadecimal digits were zeros. The records of a table are chained, see `record_checksums`.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avcil.errors import CacheError
from avcil.tables import parse_json, shown

SCHEMA_VERSION = 4  # what is written
# 2: where weights came from was a line of text; 3: without `visual_reduction`
READABLE_VERSIONS = (2, 3, 4)
_START = b'{\n  "checksum": "'
_ZEROS = b"00000000"


def encode_checked(format: str, content: Mapping[str, Any], size: int = 0) -> bytes:
    """`content` as a JSON object with a checksum, the same bytes for the same content.

    With `size`, spaces and a newline fill it up to so many bytes; they are covered too.

    Raises:
        CacheError: the text needs more than `size` bytes.
    """
    members = {"format": format, "schema_version": SCHEMA_VERSION, **content}
    text = json.dumps(members, indent=2, sort_keys=True, ensure_ascii=False).encode("utf-8")
    data = _START + _ZEROS + b'",' + text[1:]
    if size and len(data) >= size:
        raise CacheError(f"{format}: its description needs {len(data)} bytes, there is room for {size - 1}")
    data = data.ljust(size - 1) + b"\n"
    return data.replace(_ZEROS, _digits(data), 1)


def decode_checked(data: bytes, format: str) -> dict[str, Any]:
    """The content of such a JSON object, without `checksum`, `format` and `schema_version`.

    Raises:
        CacheError: not JSON, something else, of another version, or changed since it was written.
    """
    try:
        content = parse_json(data)
    except ValueError as error:
        raise CacheError(str(error)) from error
    if not isinstance(content, dict) or content.pop("format", None) != format:
        raise CacheError(f'not an avcil token cache: "format" is not {format!r}')
    _check_version(content.pop("schema_version", None))
    stored = content.pop("checksum", None)
    end = len(_START) + len(_ZEROS)
    if not data.startswith(_START) or stored != _digits(_START + _ZEROS + data[end:]).decode():
        raise CacheError("it does not match its checksum: it was changed or damaged after it was written")
    return content


def _check_version(version: object) -> None:
    if type(version) is not int or version < 1:
        raise CacheError(f'"schema_version" is {shown(version)}: expected a whole number from 1')
    if version not in READABLE_VERSIONS:
        *others, last = map(str, READABLE_VERSIONS)
        readable = f"{', '.join(others)} and {last}"
        remedy = "upgrade it" if version > SCHEMA_VERSION else "extract again into another folder"
        raise CacheError(
            f"the cache has schema version {version}; this avcil reads versions {readable}: {remedy}"
        )


def record_checksums(records: Sequence[Sequence[str]]) -> Iterator[str]:
    """The checksum of every record, eight hexadecimal digits, from the first to the last.

    A CRC-32 that runs on from record to record, over each field in UTF-8 followed by a zero byte; it begins
    with the number of records in decimal digits. So no record can be changed, moved, added or taken away.
    """
    crc = zlib.crc32(str(len(records)).encode("ascii"))
    for record in records:
        crc = zlib.crc32("".join(f"{field}\0" for field in record).encode("utf-8"), crc)
        yield f"{crc:08x}"


def _digits(data: bytes) -> bytes:
    return b"%08x" % zlib.crc32(data)
