"""Folders that appear whole, locks, and errors of the system in one line."""

import os
from pathlib import Path

import pytest

from avcil.errors import CacheError
from avcil.files import locked, os_errors_as, remove_unfinished, unfinished, write_folder


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    unfinished(tmp_path / "a").mkdir()
    (unfinished(tmp_path / "a") / "left").touch()
    write_folder(tmp_path / "a", lambda folder: (folder / "x").write_text("x") and None)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]

    def fail(folder: Path) -> None:
        (folder / "y").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "b", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_two_that_write_one_folder_are_not_mixed(tmp_path: Path) -> None:
    def second(folder: Path) -> None:
        (folder / "x").touch()
        with pytest.raises(BlockingIOError, match="written by another process"):
            write_folder(tmp_path / "a", second)
        with pytest.raises(CacheError, match="mine"):
            write_folder(tmp_path / "a", second, busy=CacheError("mine"))

    write_folder(tmp_path / "a", second)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_a_lock_is_made_held_and_given_up(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "lock"):
        for _ in range(2):
            with (
                locked(path, CacheError("busy")),
                pytest.raises(CacheError, match="busy"),
                locked(path, CacheError("busy")),
            ):
                pass
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none" / "lock", CacheError("busy")):
        pass


def test_errors_keep_cause_and_file(tmp_path: Path) -> None:
    with pytest.raises(CacheError) as caught, os_errors_as(CacheError, "cannot do it"):
        (tmp_path / "none").read_bytes()
    assert str(caught.value) == f"cannot do it: {os.strerror(2)}: {tmp_path / 'none'}"
    with pytest.raises(CacheError, match=r"^cannot do it: odd$"), os_errors_as(CacheError, "cannot do it"):
        raise OSError("odd\n")


def test_what_is_unfinished_is_removed(tmp_path: Path) -> None:
    for name in (".a.tmp", ".b.partial-7", "c.tmp", ".d"):
        (tmp_path / name).mkdir()
    (tmp_path / ".e.tmp").touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".d", "c.tmp"]
