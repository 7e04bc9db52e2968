"""Caches of version 2, in which where weights came from was a line of text, are read as they were then."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenCache, TokenSpec, WeightsOrigin
from avcil.errors import CacheError

HUB = WeightsOrigin(
    "hub",
    "VideoMAE, Hugging Face folder",
    repository="MCG-NJU/videomae-base",
    commit="0123abc",
    sha256="c" * 64,
)
FILE = WeightsOrigin("file", "AudioMAE file", file="pretrained weights.pth", sha256="d" * 64)
INFO = CacheInfo(
    visual=TokenSpec((2, 1, 3), "float16"),
    audio=TokenSpec((2,), "float32"),
    recipe={"name": "test"},
    visual_encoder=EncoderInfo("videomae-base", "a" * 64, HUB),
    audio_encoder=EncoderInfo("audiomae-base", "b" * 64, FILE),
    precision="fp32",
)
CLIPS = [CacheClip("one", "cat", "train"), CacheClip("two", "dog", "test")]
# As the last avcil that wrote version 2 computed them for this very cache.
FINGERPRINT = "eb6da4342504d6e3fa9b233db7c4f9b190ccd4bcedc1b299bc0fa69897588382"
IDENTITY = "98dae77f8826cf49fc89fb84b4bcf9a7135f2c346331187ac6fc9f08749f059a"


def older(members: dict[str, Any], size: int = 0, version: int = 2) -> bytes:
    """A JSON object of an older version with its checksum, filled up to a size."""
    text = json.dumps(
        {**members, "schema_version": version}, indent=2, sort_keys=True, ensure_ascii=False
    ).encode()
    data = (b'{\n  "checksum": "00000000",' + text[1:]).ljust(size - 1) + b"\n"
    return data.replace(b"00000000", b"%08x" % zlib.crc32(data), 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache of version 2 with one of two clips: made today, its two kinds of headers written as then."""
    path = tmp_path / "cache"
    with CacheWriter.open(path, INFO, CLIPS) as writer:
        writer.write(["one"], np.full((1, 2, 1, 3), 0.5), np.full((1, 2), 0.25))
    members = json.loads((path / "cache.json").read_bytes())
    lines = {
        "visual_encoder": "VideoMAE, Hugging Face folder 0123abc, from MCG-NJU/videomae-base@0123abc",
        "audio_encoder": "AudioMAE file pretrained weights.pth",
    }
    for key, line in lines.items():
        members[key] |= {"weights": line, "weights_sha256": members[key]["weights"]["sha256"]}
    del members["checksum"]
    (path / "cache.json").write_bytes(older(members))
    shard = path / "shard-00000.h5"
    data = shard.read_bytes()
    block = json.loads(data[:2048])
    del block["checksum"]
    shard.write_bytes(older(block, 2048) + data[2048:])
    return path


def test_it_is_read_as_ever(path: Path) -> None:
    cache = TokenCache(path)
    assert cache.info == INFO and cache.info.identity == IDENTITY
    assert cache.fingerprint == FINGERPRINT
    assert (cache.read(["one"]).visual == 0.5).all()


def test_what_a_run_recorded_of_it_is_read_as_ever() -> None:
    assert CacheInfo.from_content(INFO.content_in_words()) == INFO


def test_it_is_completed_by_rows_of_the_new_version(path: Path) -> None:
    more = [*CLIPS, CacheClip("three", "dog", "test")]
    with CacheWriter.open(path, INFO, more) as writer:
        assert set(writer.missing) == {"two", "three"}
        writer.write(["two", "three"], np.ones((2, 2, 1, 3)), np.ones((2, 2)))
    cache = TokenCache(path)
    assert [clip.id for clip in cache.present()] == ["one", "two", "three"]
    assert (cache.read(["one", "two", "three"]).visual[:, 0, 0, 0] == [0.5, 1, 1]).all()
    assert json.loads((path / "cache.json").read_bytes())["schema_version"] == 2
    assert json.loads((path / "shard-00001.h5").read_bytes()[:2048])["schema_version"] == 4


def test_version_3_is_read_too(tmp_path: Path) -> None:
    """It had all that caches of whole tokens have now."""
    with CacheWriter.open(tmp_path / "cache", INFO, CLIPS) as writer:
        writer.write(["one"], np.full((1, 2, 1, 3), 0.5), np.full((1, 2), 0.25))
    now = TokenCache(tmp_path / "cache").fingerprint
    members = json.loads((tmp_path / "cache" / "cache.json").read_bytes())
    del members["checksum"]
    (tmp_path / "cache" / "cache.json").write_bytes(older(members, version=3))
    assert TokenCache(tmp_path / "cache").fingerprint == now == FINGERPRINT


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        ("random (seed 0)", WeightsOrigin("random", "seed 0")),
        (
            "AudioMAE folder 12, from me/audio.v2@12",
            WeightsOrigin("hub", "AudioMAE folder", repository="me/audio.v2", commit="12"),
        ),
        ("VideoMAE, original file a b.pth", WeightsOrigin("file", "VideoMAE, original file", file="a b.pth")),
        (
            "VideoMAE, Hugging Face folder vm",
            WeightsOrigin("file", "VideoMAE, Hugging Face folder", file="vm"),
        ),
        (
            "AudioMAE folder 12, from me/audio@13",
            WeightsOrigin("file", "AudioMAE folder", file="12, from me/audio@13"),
        ),
        ("made up, seed 3", WeightsOrigin("own", "made up, seed 3")),
        ("", WeightsOrigin()),
    ],
)
def test_a_line_becomes_data_and_the_same_line_again(line: str, origin: WeightsOrigin) -> None:
    assert WeightsOrigin.from_words(line) == origin and str(origin) == line


def test_a_member_that_is_neither_is_refused() -> None:
    content = INFO.content()
    for weights, message in (
        (3, "audio_encoder.weights = 3; expected a table"),
        ({"words": "x"}, "audio_encoder.weights.kind is missing"),
        ({"kind": "hub"}, "repository of an encoder's weights of kind 'hub' is empty"),
        ({"kind": "cloud"}, "audio_encoder.weights.kind = 'cloud'; choose one of random, hub, file, own"),
        ({"kind": "own", "place": "x"}, "unknown key 'audio_encoder.weights.place'"),
    ):
        with pytest.raises(CacheError, match=message):
            CacheInfo.from_content(
                content | {"audio_encoder": content["audio_encoder"] | {"weights": weights}}
            )
