"""Decoding one file: a request in, frames and sound or a `DecodeError` out.

The backends are `pyav_backend` and `decord_backend`; each is imported when it is first used.
"""

from __future__ import annotations

from pathlib import Path

from avcil.errors import DecodeError
from avcil.extract.media.contract import Backend, DecodedClip, DecodeRequest, failure


def decode(path: Path, request: DecodeRequest, backend: Backend = "auto") -> DecodedClip:
    """Decode the wanted frames and the sound of one file on one thread; `auto` is PyAV.

    Raises `DecodeError` with a kind of `KINDS`, and nothing else that a file could cause.
    """
    try:
        _require_file(path)
        if backend == "decord":
            from avcil.extract.media.decord_backend import decode_with_decord

            return decode_with_decord(path, request)
        from avcil.extract.media.pyav_backend import decode_with_pyav

        return decode_with_pyav(path, request)
    except DecodeError:
        raise
    except MemoryError as error:
        raise failure("out-of-memory", "the frames or the sound do not fit into memory") from error
    except Exception as error:  # whatever a media library throws at an odd file becomes that clip's failure
        raise failure("internal", f"{type(error).__name__}: {error}") from error


def _require_file(path: Path) -> None:
    try:
        size_bytes = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise failure("missing", "no such file") from error
    except (OSError, ValueError) as error:
        raise failure("unreadable", str(error)) from error
    if not path.is_file():
        raise failure("unreadable", "not a regular file")
    if size_bytes == 0:
        raise failure("unreadable", "the file is empty (0 bytes)")
