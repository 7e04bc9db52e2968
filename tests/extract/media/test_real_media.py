"""Real media files, where there are some: the folder that AVCIL_TEST_MEDIA names."""

import os
from pathlib import Path

import pytest

from avcil.cache import TokenCache
from avcil.errors import DecodeError
from avcil.extract.engine import ExtractOptions, build_token_encoder, extract
from avcil.extract.media.contract import FAILURE_KINDS
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.recipe import recommended
from avcil.extract.sources.manifest import Clip, read_source
from avcil.extract.sources.splits import SplitRule
from avcil.extract.workers import PoolOptions, process

MEDIA = Path(os.environ.get("AVCIL_TEST_MEDIA", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("AVCIL_TEST_MEDIA"), reason="AVCIL_TEST_MEDIA names no folder of real media"
)


def files(name: str) -> list[Clip]:
    paths = sorted(path for path in (MEDIA / name).iterdir() if path.suffix != ".csv")
    return [Clip(path.name, path, "x", "train") for path in paths]


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_every_odd_file_ends_as_a_clip_or_an_error(backend: str) -> None:
    clips = files("odd")
    work = Preparation(recommended(), backend)  # type: ignore[arg-type]
    outcomes = list(process(clips, work, PoolOptions(2, deadline_s=20.0)))
    assert len(outcomes) == len(clips) > 50
    kinds = {o.clip.id: o.value.kind for o in outcomes if isinstance(o.value, DecodeError)}
    assert set(kinds.values()) <= set(FAILURE_KINDS) - {"internal", "timeout", "crashed"}
    prepared = [o.value for o in outcomes if isinstance(o.value, PreparedClip)]
    assert len(prepared) >= 6
    assert all(one.frames.shape == (16, 224, 224, 3) and one.mel.shape == (1024, 128) for one in prepared)


def test_class_folders_of_short_clips(tmp_path: Path) -> None:
    clips = read_source(MEDIA / "grid_digits", split=SplitRule.parse("16/4/4"))
    summary = extract(
        clips[::24], tmp_path / "cache", ExtractOptions("demo", "demo", workers=0, device="cpu")
    )
    assert (len(clips), summary.done, summary.failures) == (240, 10, [])


@pytest.mark.slow
def test_ten_seconds_through_the_full_size_encoders(tmp_path: Path) -> None:
    options = ExtractOptions(visual_weights="random", audio_weights="random", workers=0)
    clip = files("clips_10s")[0]
    assert extract([clip], tmp_path / "cache", options).done == 1
    cache = TokenCache(tmp_path / "cache")
    tokens = cache.read([clip.id])
    assert tokens.visual.shape == (1, 8, 196, 768) and tokens.audio.shape == (1, 768)
    assert cache.info == build_token_encoder(options).info
    assert 0.1 < tokens.visual.astype("float32").std() < 10
