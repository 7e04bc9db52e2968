"""Owns how files and folders appear: whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path`; a reader sees the old text or the new one, nothing between."""
    built = path.with_name(f".{path.name}.tmp")
    built.write_text(text, encoding="utf-8")
    built.replace(path)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `path` and rename it, with its files on disk before its name is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir()
    try:
        write(partial)
        for written in partial.iterdir():
            with written.open("rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            path.rmdir()  # only ever an empty folder that the user made
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Take away from `folder` what a killed process was still building."""
    for partial in folder.glob(".*.partial-*"):
        shutil.rmtree(partial)
    for built in folder.glob(".*.tmp"):
        built.unlink()
