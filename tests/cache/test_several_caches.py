"""Several caches as one, and one cache in several processes and threads."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, CacheWriter, SyntheticSpec, TokenCache, Tokens, TokenSpec
from avcil.cache import write_synthetic_cache as write
from avcil.errors import CacheError

SPEC = SyntheticSpec(classes=2, train=3, val=1, test=1, time=2, space=4, width=8)
Make = Callable[[int], tuple[np.ndarray, np.ndarray]]
Fill = Callable[[str, CacheInfo, slice], Path]


@pytest.fixture
def fill(
    tmp_path: Path, clips: list[CacheClip], tokens: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> Fill:
    visual, audio = tokens(len(clips))

    def make(name: str, info: CacheInfo, part: slice) -> Path:
        with CacheWriter.open(tmp_path / name, info, clips[part]) as writer:
            writer.write([clip.id for clip in clips[part]], visual[part], audio[part])
        return tmp_path / name

    return make


def test_caches_add_up_to_one(fill: Fill, info: CacheInfo, clips: list[CacheClip]) -> None:
    whole = TokenCache(fill("whole", info, slice(6)))
    parts = fill("a", info, slice(2)), fill("b", info, slice(2, 5)), fill("c", info, slice(5, 6))
    cache = TokenCache(*parts)
    assert cache.paths == parts and cache.path == parts[0] and cache.clips == clips
    assert cache.fingerprint == whole.fingerprint
    ids = ["clip4", "clip0", "clip5"]
    np.testing.assert_array_equal(cache.read(ids).visual, whole.read(ids).visual)
    np.testing.assert_array_equal(cache.read_audio(ids), whole.read_audio(ids))
    with pytest.raises(CacheError, match=r"whole/../a, .*/b: clip 'x' is not"):
        TokenCache(parts[0] / "../whole/../a", parts[1]).read(["x"])


def test_other_tokens_are_refused_by_field(fill: Fill, info: CacheInfo) -> None:
    others = {
        "recipe.name: .*/a has 'test', .*/b has 'b'": replace(info, recipe={**info.recipe, "name": "b"}),
        "visual_encoder.fingerprint": replace(
            info, visual_encoder=replace(info.visual_encoder, fingerprint="c" * 64)
        ),
        "visual.dtype": replace(info, visual=TokenSpec((2, 3, 5), "float32")),
        "precision: .*/a has None, .*/b has 'bf16'": replace(info, precision="bf16"),
    }
    a = fill("a", info, slice(2))
    for number, (message, other) in enumerate(others.items()):
        b = fill(f"{number}/b", other, slice(2, 4))
        with pytest.raises(CacheError, match=f"cannot be used together; {message}"):
            TokenCache(a, b)


def test_a_clip_in_two_caches_is_refused_by_name(fill: Fill, info: CacheInfo) -> None:
    with pytest.raises(CacheError, match=r"clip 'clip1' is in .*/a and in .*/b"):
        TokenCache(fill("a", info, slice(2)), fill("b", info, slice(1, 3)))


def test_reading_into_given_arrays(fill: Fill, info: CacheInfo) -> None:
    cache = TokenCache(fill("a", replace(info, visual=TokenSpec((2, 3, 5), "int8")), slice(6)))
    out = cache.empty(2)
    assert cache.read(["clip3", "clip1"], out=out) is out
    for name in ("visual", "visual_scale", "audio"):
        np.testing.assert_array_equal(getattr(out, name), getattr(cache.read(["clip3", "clip1"]), name))
    audio = np.empty((1, 5), np.float32)
    assert cache.read_audio(["clip3"], out=audio) is audio and (audio == out.audio[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"visual": np.empty((3, 2, 3, 5), np.float16)},
            r"float16 \[3, 2, 3, 5\]: expected float16 \[2, 2, 3, 5\]",
        ),
        ({"visual": np.empty((2, 2, 3, 5), np.float32)}, "float32"),
        ({"audio": np.empty((4, 5), np.float32)[::2]}, "not contiguous"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    fill: Fill, info: CacheInfo, change: dict[str, np.ndarray], message: str
) -> None:
    cache = TokenCache(fill("a", info, slice(2)))
    out = replace(cache.empty(2), **change)
    with pytest.raises(CacheError, match=message):
        cache.read(["clip0", "clip1"], out=out)
    without = Tokens(out.visual, out.audio)
    int8 = TokenCache(fill("b", replace(info, visual=TokenSpec((2, 3, 5), "int8")), slice(2)))
    with pytest.raises(CacheError):
        int8.read(["clip0", "clip1"], out=without)


def sums(cache: TokenCache, ids: list[str]) -> list[float]:
    return [float(cache.read([clip_id]).visual.astype(float).sum()) for clip_id in ids * 20]


@pytest.mark.parametrize("way", ["thread", "spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_threads_and_processes_read_the_same(way: str, tmp_path: Path) -> None:
    write(tmp_path / "c", SPEC)
    cache = TokenCache(tmp_path / "c")
    ids = [clip.id for clip in cache.clips]
    expected = sums(cache, ids)
    pool = (
        ThreadPoolExecutor(4)
        if way == "thread"
        else ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(way))
    )
    with pool:
        assert list(pool.map(partial(sums, cache), [ids] * 4)) == [expected] * 4


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_reads_through_the_maps_it_inherits(tmp_path: Path) -> None:
    write(tmp_path / "c", SPEC)
    cache = TokenCache(tmp_path / "c")
    ids = [clip.id for clip in cache.clips]
    expected = sums(cache, ids)
    for path in (tmp_path / "c").iterdir():
        path.unlink()  # opening anew would fail
    child = os.fork()
    if not child:
        try:
            os._exit(0 if sums(cache, ids) == expected else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
