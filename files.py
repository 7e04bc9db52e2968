"""Files that appear whole or not at all, locks between processes, and errors of the system in one line."""

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
    built = unfinished(path)
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


def write_folder(
    path: Path, write: Callable[[Path], None], *, busy: Exception | None = None, durable: bool = True
) -> None:
    """Let `write` fill a folder beside `path` and rename it to `path`, which is absent or an empty folder.

    `durable`: every file is on the disk before the folder has its name.

    Raises:
        OSError: `path` cannot be written, or another process writes it; then `busy` where it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    built = unfinished(path)
    built.mkdir(exist_ok=True)
    with locked(built, busy or BlockingIOError(0, "it is being written by another process", str(path))):
        try:
            for left in built.iterdir():  # by a process that was killed
                remove(left)
            write(built)
            if durable:
                for written in (*built.iterdir(), built):
                    sync(written)
            if path.is_dir():
                path.rmdir()  # only ever an empty folder that the user made
            built.rename(path)
        except BaseException:
            shutil.rmtree(built, ignore_errors=True)
            raise
    if durable:
        sync(path.parent)


def unfinished(path: Path) -> Path:
    """The name under which `path` is written."""
    return path.with_name(f".{path.name}.tmp")


def is_unfinished(path: Path) -> bool:
    """Say whether `path` has the name of something that is being written, or was when its writer died."""
    return path.name.startswith(".") and (path.name.endswith(".tmp") or ".partial-" in path.name)


def remove_unfinished(folder: Path) -> None:
    """Remove from `folder` what a killed process was still writing."""
    for path in filter(is_unfinished, folder.iterdir()):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path, busy: Exception) -> Iterator[None]:
    """Hold the lock of a folder, or of a file, which is made; raise `busy` where another process has it."""
    is_folder = path.is_dir()
    fd = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough: a forked child may hold the descriptor
    finally:
        os.close(fd)


@contextmanager
def os_errors_as(kind: type[Exception], words: str) -> Iterator[None]:
    """Raise an `OSError` as an error of `kind` that begins with `words` and keeps the cause and the file."""
    try:
        yield
    except OSError as error:
        raise kind(f"{words}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """What the system says: the cause, and the file where one is named."""
    cause = error.strerror or first_line(error)
    return f"{cause}: {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else cause


def first_line(error: BaseException) -> str:
    """The first line that an error says something in; its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
