"""What a cache says about itself: content and back, and everything that is refused."""

from dataclasses import replace
from typing import Any

import pytest

from avcil.cache import CacheClip, CacheInfo, EncoderInfo, TokenSpec, WeightsOrigin
from avcil.cache.schema import differences
from avcil.errors import CacheError


def test_info_survives_its_content(info: CacheInfo) -> None:
    assert CacheInfo.from_content(info.content()) == info


def test_recipe_is_normalised_like_its_content(info: CacheInfo) -> None:
    with_tuple = replace(info, recipe={"mean": (0.5, 0.25)})
    assert CacheInfo.from_content(with_tuple.content()) == with_tuple


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual": {"shape": [2, 3], "dtype": "float16"}}, r"expected \(T, S, D\)"),
        ({"audio": {"shape": [0], "dtype": "float32"}}, "positive"),
        ({"audio": {"shape": [True], "dtype": "float32"}}, r"audio\.shape\[0\] = True; expected int"),
        ({"audio": {"shape": [10**9], "dtype": "float32"}}, "numbers at most, and no axis above 65536"),
        ({"audio": {"shape": [5], "dtype": "float64"}}, "float64.*float16, float32"),
        ({"audio": {"shape": [5]}}, "audio.dtype.*missing"),
        ({"recipe": 3}, "recipe = 3; expected a table"),
        ({"audio_encoder": {"name": "x", "fingerprint": "XY", "weights": {"kind": "own"}}}, "sha256"),
        ({"surprise": 1}, "unknown key.*surprise"),
    ],
)
def test_bad_content_is_refused_by_key(info: CacheInfo, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheError, match=message):
        CacheInfo.from_content(info.content() | change)


@pytest.mark.parametrize("recipe", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_recipe_must_fit_json(info: CacheInfo, recipe: dict[str, Any]) -> None:
    with pytest.raises(CacheError, match="JSON"):
        replace(info, recipe=recipe)


def test_differences_name_fields_and_ignore_words_about_weights(info: CacheInfo) -> None:
    other = replace(
        info,
        visual=TokenSpec((2, 3, 6), "float16"),
        recipe={"name": "test", "audio": {"rate_hz": 11430}},
        visual_encoder=EncoderInfo("eye", "a" * 64, WeightsOrigin("own", "other words")),
    )
    assert differences(info, info) == []
    assert info.identity != other.identity
    assert differences(info, other) == [
        "recipe.audio.rate_hz: the cache has 16000, asked for 11430",
        "visual.shape: the cache has [2, 3, 5], asked for [2, 3, 6]",
    ]


def test_what_has_another_identity_differs(info: CacheInfo) -> None:
    """Else a shard would be taken for damaged where the recipe is another one."""
    whole, broken = (replace(info, recipe={"distance": value}) for value in (2, 2.0))
    assert whole.identity != broken.identity
    assert differences(whole, broken) == ["recipe.distance: the cache has 2, asked for 2.0"]


@pytest.mark.parametrize("change", [{"name": None}, {"fingerprint": None}])
def test_an_encoder_is_described_in_text(info: CacheInfo, change: dict[str, Any]) -> None:
    with pytest.raises(CacheError, match="encoder"):
        replace(info.visual_encoder, **change)


@pytest.mark.parametrize("change", [{"words": 3}, {"file": "\udc80.pth"}, {"kind": "x"}, {"sha256": "x"}])
def test_where_weights_came_from_is_described_in_text(change: dict[str, Any]) -> None:
    with pytest.raises(CacheError, match="weights"):
        WeightsOrigin(**change)


@pytest.mark.parametrize(
    ("clip_id", "label", "split"),
    [
        ("", "a", "train"),
        ("x", "", "train"),
        ("x", "a", "Train"),
        ("a\0b", "a", "val"),
        ("\ud800", "a", "val"),
        ("é" * 513, "a", "train"),
        ("x", 3, "train"),
    ],
)
def test_clips_that_cannot_be_stored_are_refused(clip_id: str, label: Any, split: str) -> None:
    with pytest.raises(CacheError, match="clip"):
        CacheClip(clip_id, label, split)


def test_the_hash_of_a_weight_file_travels_and_does_not_decide(info: CacheInfo) -> None:
    weights = WeightsOrigin("file", "VideoMAE, original file", file="x.pth", sha256="0f" * 32)
    hashed = replace(info, visual_encoder=replace(info.visual_encoder, weights=weights))
    assert CacheInfo.from_content(hashed.content()) == hashed
    assert info.content()["visual_encoder"]["weights"] == {"kind": "random", "words": "seed 0"}
    assert info.identity == hashed.identity
    assert differences(info, hashed) == differences(hashed, info) == []
