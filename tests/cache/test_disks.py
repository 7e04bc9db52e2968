"""Disks that are full, and folders that cannot be written: one error, and nothing lost."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.small_disk import small_disk

from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache
from avcil.cache.operations.relabel import relabel
from avcil.errors import CacheError

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]
NOBODY = 65534


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here; the tests with a limit on file sizes stand for it")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_file_system(tiny_disk: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make) -> None:
    many = [CacheClip(f"more{i}", "a", "train") for i in range(5000)]
    with pytest.raises(CacheError, match=r"cannot reserve 0\.0004 GB for 5000 clips.*No space left"):
        CacheWriter.open(tiny_disk / "c", info, many)
    assert list(tiny_disk.iterdir()) == []
    visual, audio = tokens(6)
    writer = CacheWriter.open(tiny_disk / "c", info, clips)
    (tiny_disk / "filler").write_bytes(bytes(os.statvfs(tiny_disk).f_bavail * 4096))
    writer.write([clip.id for clip in clips[:3]], visual[:3], audio[:3])  # their place is reserved
    for fail in (lambda: writer.record_failure("clip4", "corrupt", "cut short"), writer.close):
        with pytest.raises(CacheError, match=r"cannot write .*failures\.csv: No space left"):
            fail()
    before = (tiny_disk / "c/manifest.csv").read_bytes()
    with pytest.raises(CacheError, match="No space left"):
        CacheWriter.open(tiny_disk / "c", info, [CacheClip("new", "a", "train")])
    assert (tiny_disk / "c/manifest.csv").read_bytes() == before
    np.testing.assert_array_equal(TokenCache(tiny_disk / "c").read(["clip2"]).visual, visual[2:3])
    (tiny_disk / "filler").unlink()
    with CacheWriter.open(tiny_disk / "c", info, clips) as writer:
        assert writer.missing == ["clip3", "clip4", "clip5"]
        writer.write(writer.missing, visual[3:], audio[3:])


def test_a_row_that_cannot_be_written_is_missing(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    visual, audio = tokens(6)
    with CacheWriter.open(tmp_path / "c", info, clips) as writer:
        writer.write(["clip0"], visual[:1], audio[:1])
        with (
            small_disk(4000),
            pytest.raises(CacheError, match=r"cannot write tokens into .*: File too large"),
        ):
            writer.write(["clip1"], visual[1:2], audio[1:2])
        assert "clip1" in writer.missing
    assert [clip.id for clip in TokenCache(tmp_path / "c").present()] == ["clip0"]


def in_a_child(work: Callable[[], object]) -> str:
    """Run `work` as a user without rights; what it returned or raised, in words."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            if not os.geteuid():
                os.setuid(NOBODY)
            words = str(work())
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
        try:
            os.write(send, words.encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as file:
        words = file.read()
    os.waitpid(child, 0)
    return words


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_read_only_folder_can_be_read_and_not_written(
    info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "c"
        visual, audio = tokens(1)
        with CacheWriter.open(path, info, clips) as writer:
            writer.write(["clip0"], visual, audio)
        table = Path(place) / "t.csv"
        table.write_text("id,label\nclip0,x\n")
        for entry in (path, *path.iterdir()):
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        Path(place).chmod(0o555)
        stored = TokenCache(path).read_audio(["clip0"]).tobytes()
        words = in_a_child(lambda: stored == TokenCache(path).read_audio(["clip0"]).tobytes())
        assert words == "True"
        for work in (
            lambda: CacheWriter.open(path, info, clips),
            lambda: CacheWriter.open(Path(place) / "new", info, clips),
            lambda: relabel(path, table),
        ):
            assert in_a_child(work).startswith("CacheError: cannot write a cache at ")
        Path(place).chmod(0o755)
        path.chmod(0o755)
