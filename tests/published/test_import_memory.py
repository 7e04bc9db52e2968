"""An import of features far larger than what is read of them at once takes little memory, for real."""

import pickle
import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, TokenCache, TokenSpec
from avcil.published.features import open_features
from avcil.published.importer import import_features
from avcil.published.layout import released_encoder

CLIPS = [f"clip{i:04d}" for i in range(320)]  # 1.5 GB of features
LIMIT_BYTES = 2 * 10**9
VISUAL_NAME, AUDIO_NAME = "visual.npy", "audio.npy"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the most memory that was taken")
@pytest.mark.parametrize("protocol", [2, 3])
def test_large_pickles_take_little_memory(protocol: int, tmp_path: Path) -> None:
    from support.released_files import HoleyFile, StreamingPickler  # not there for the child

    with (tmp_path / VISUAL_NAME).open("wb", buffering=0) as raw:
        zeros = np.zeros((1568, 768), "f4")
        StreamingPickler(HoleyFile(raw), protocol).dump_pairs((name, zeros[:]) for name in CLIPS)
    assert (tmp_path / VISUAL_NAME).stat().st_size > 1.5e9
    audio = {name: np.full(768, i, "f4") for i, name in enumerate(CLIPS)}
    (tmp_path / AUDIO_NAME).write_bytes(pickle.dumps(audio, protocol))
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 10**7 < int(done.stdout) < 0.6e9
    cache = TokenCache(tmp_path / "cache")
    assert [clip.id for clip in cache.present()] == CLIPS
    assert cache.read_audio(CLIPS)[:, 767].tolist() == list(range(len(CLIPS)))


def import_all(folder: Path) -> None:
    """Import under a limit of address space, and say the most memory that was taken, in bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    clips = [CacheClip(name, "class", "train") for name in CLIPS]
    info = CacheInfo(
        TokenSpec((8, 196, 768), "float16"),
        TokenSpec((768,), "float32"),
        {"name": "released"},
        released_encoder("visual", "videomae"),
        released_encoder("audio", "audiomae"),
    )
    visual_path, audio_path = folder / VISUAL_NAME, folder / AUDIO_NAME
    with closing(open_features(visual_path)) as seen, closing(open_features(audio_path)) as heard:
        summary = import_features(folder / "cache", info, clips, seen, heard)
    sys.stderr.write(f"{summary.done} clips, {summary.gb_per_s:.2f} GB/s\n")
    # Not getrusage: what it says begins with the parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sys.stdout.write(str(int(status["VmHWM"].split()[0]) * 1024))


if __name__ == "__main__":
    import_all(Path(sys.argv[1]))
