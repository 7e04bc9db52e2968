"""Owns the folder of a cache while it is written: who may write, and that nothing foreign is touched."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from avcil.cache.metadata import FAILURES_NAME, FLAGS_NAME, INFO_NAME, MANIFEST_NAME
from avcil.errors import CacheError

LOCK_NAME = ".lock"


def lock(path: Path) -> int:
    """Make the folder `path` if need be and take its lock; returns the lock's file descriptor.

    Raises:
        CacheError: it holds something that is not a cache, another process writes it, or it cannot be
            written at all.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        _check_content(path)
        fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise CacheError(f"cannot write a cache at {path}: {error.strerror or error}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise CacheError(f"{path} is being written by another process: wait for it or stop it") from error
    return fd


def unlock(fd: int) -> None:
    """Give up the lock that `lock` returned."""
    fcntl.flock(fd, fcntl.LOCK_UN)  # said aloud: a forked child may still hold the descriptor
    os.close(fd)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the cache at `path`; raises as `lock` does."""
    fd = lock(path)
    try:
        yield
    finally:
        unlock(fd)


def remove_temporaries(path: Path) -> None:
    """Take away what was being built when a writer stopped."""
    for leftover in path.glob(".*.tmp"):
        leftover.unlink()


def remove_traces(path: Path, made_folder: bool) -> None:
    """Take away a cache that could not be begun; the folder too if it was made for it."""
    for name in (MANIFEST_NAME, FAILURES_NAME, FLAGS_NAME, INFO_NAME, LOCK_NAME):
        (path / name).unlink(missing_ok=True)
    if made_folder:
        with contextlib.suppress(OSError):  # something else came to lie in it
            path.rmdir()


def _check_content(path: Path) -> None:
    """Refuse a folder that is neither a cache, nor a cache just begun, nor empty."""
    if (path / INFO_NAME).exists():
        return
    for entry in path.iterdir():
        if entry.name != LOCK_NAME and not (entry.name.startswith(".") and entry.name.endswith(".tmp")):
            raise CacheError(
                f"{path} holds {entry.name!r} and no {INFO_NAME}: it is not a token cache; "
                "choose an empty or a new folder"
            )
