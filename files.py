"""Files that appear whole or not at all, locks between processes, and the first line of an error."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a name beside `path` to write under; on success it takes the place of `path`, else it goes.

    A reader sees the old file or the new one, nothing between. `durable`: also after a power cut.
    """
    built = path.with_name(f".{path.name}.tmp")
    try:
        yield built
        if durable:
            sync(built)
        built.replace(path)
    except BaseException:
        built.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace the file at `path` as `replacing` does."""
    with replacing(path, durable=durable) as built:
        built.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` as `replacing` does."""
    write_bytes(path, text.encode())


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `path` and rename it, with its files on disk before its name is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir()
    try:
        write(partial)
        for written in partial.iterdir():
            sync(written)
        if path.is_dir():
            path.rmdir()  # only ever an empty folder that the user made
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def is_unfinished(path: Path) -> bool:
    """Say whether `path` has the name of something that is being written, or was when its writer died."""
    return path.name.startswith(".") and (path.name.endswith(".tmp") or ".partial-" in path.name)


def remove_unfinished(folder: Path) -> None:
    """Remove from `folder` what a killed process was still writing."""
    for path in filter(is_unfinished, folder.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path, busy: Exception) -> Iterator[None]:
    """Hold the lock of a file or folder that exists; raise `busy` where another process holds it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise busy from error
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # said aloud: a forked child may still hold the descriptor
    finally:
        os.close(fd)


def first_line(error: BaseException) -> str:
    """The first line that an error says something in; its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
