"""Names that FFmpeg would take for something else are names of files; memory stays where it is."""

from pathlib import Path

import pytest
from support.clip_files import number_of, write_clip

from avcil.extract.media.contract import Backend, DecodeRequest
from avcil.extract.media.decode import decode

NAMES = (
    "take 12:30.mp4",
    "take:1.mp4",
    "http:host.mp4",
    "http:/host/x.mp4",
    "file:x.mp4",
    "-x.mp4",
    "a%03d.mp4",
)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize("name", NAMES)
def test_a_relative_name_is_a_file(
    name: str, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_clip(tmp_path / "clip.mp4", n_frames=4, seconds=0.3).rename(tmp_path / name)
    for request in (DecodeRequest(n_frames=4), DecodeRequest(n_frames=2, start_s=0.0, end_s=0.2)):
        clip = decode(Path(name), request, backend)
        assert number_of(clip.frames[0]) == 0 and len(clip.frames) == request.n_frames


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", n_frames=4, seconds=0.3)
    for _ in range(50):
        decode(path, DecodeRequest())
    before_mb = resident_mb()
    for _ in range(250):
        decode(path, DecodeRequest())
    assert resident_mb() - before_mb < 10  # 5 000 clips add 4
