"""Published features become tokens bit for bit; what cannot be used is noted, and an import goes on."""

import csv
from contextlib import ExitStack, closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.released_files import wrapped, write_hdf5

from avcil.cache import CacheClip, CacheInfo, TokenCache, TokenSpec
from avcil.errors import CacheError
from avcil.published import importer
from avcil.published.features import open_features
from avcil.published.importer import ImportProgress, ImportSummary, import_features
from avcil.published.layout import find_released, released_encoder, released_shapes

N, BATCH, SPACE, WIDTH = 21, 16, 3, 10
RNG = np.random.default_rng(0)
CLIPS = [CacheClip(f"clip{i}", f"class {i % 3}", ("train", "val", "test")[i % 3]) for i in range(N)]
VISUAL = {clip.id: RNG.standard_normal((8 * SPACE, WIDTH)).astype("f4") for clip in CLIPS}
AUDIO = {clip.id: RNG.standard_normal(WIDTH).astype("f4") for clip in CLIPS}


INFO = CacheInfo(
    TokenSpec((8, SPACE, WIDTH), "float16"),
    TokenSpec((WIDTH,), "float32"),
    {"name": "released"},
    released_encoder("visual", "videomae"),
    released_encoder("audio", "audiomae"),
)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "MAX_BATCH", BATCH)


def imported(
    folder: Path,
    visual: dict[str, np.ndarray] = VISUAL,
    audio: dict[str, np.ndarray] = AUDIO,
    told: list[ImportProgress] | None = None,
) -> ImportSummary:
    folder.mkdir(exist_ok=True)
    write_hdf5(folder / "visual.h5", visual)
    np.save(folder / "audio.npy", wrapped(audio), allow_pickle=True)
    tell = told.append if told is not None else None
    visual_path, audio_path = folder / "visual.h5", folder / "audio.npy"
    with closing(open_features(visual_path)) as seen, closing(open_features(audio_path)) as heard:
        return import_features(folder / "cache", INFO, CLIPS, seen, heard, tell)


def test_tokens_are_the_features_in_the_order_t_then_place(tmp_path: Path) -> None:
    told: list[ImportProgress] = []
    summary = imported(tmp_path, told=told)
    assert (summary.done, summary.already, summary.failures, summary.unlisted) == (N, 0, {}, 0)
    assert [now.done for now in told] == [BATCH, N]
    assert summary.read_bytes == told[-1].read_bytes == N * (8 * SPACE * WIDTH + WIDTH) * 4
    cache = TokenCache(tmp_path / "cache")
    assert cache.clips == CLIPS
    tokens = cache.read([clip.id for clip in CLIPS])
    for i, clip in enumerate(CLIPS):
        assert tokens.visual[i].tobytes() == VISUAL[clip.id].astype("f2").tobytes()
        assert tokens.audio[i].tobytes() == AUDIO[clip.id].tobytes()
        assert tokens.visual[i, 5, 2].tobytes() == VISUAL[clip.id][5 * SPACE + 2].astype("f2").tobytes()


def test_what_cannot_be_used_is_noted_and_taken_in_later(tmp_path: Path) -> None:
    bad = np.full((8 * SPACE, WIDTH), np.nan, "f4")
    visual = VISUAL | {"clip1": bad, "clip2": VISUAL["clip2"][1:], "clip3": VISUAL["clip3"] + 7e4}
    visual |= {"clip4": VISUAL["clip4"].astype(int), "stranger": bad}
    del visual["clip5"], visual["clip6"]
    audio = {key: value for key, value in AUDIO.items() if key not in ("clip6", "clip7")}
    audio |= {"stranger": AUDIO["clip0"], "clip8": np.full(WIDTH, np.inf, "f4")}
    summary = imported(tmp_path, visual, audio)
    assert (summary.done, summary.unlisted) == (N - 8, 1)
    with (tmp_path / "cache" / "failures.csv").open(newline="") as file:
        found = {row["id"]: (row["kind"], row["detail"]) for row in csv.DictReader(file)}
    assert found == summary.failures == {
        "clip1": ("not-finite", "visual features up to nan do not fit float16"),
        "clip2": ("wrong-shape", "visual features [23, 10], expected [24, 10]"),
        "clip3": ("not-finite", found["clip3"][1]),
        "clip4": ("wrong-type", "visual features int64, expected floating-point numbers"),
        "clip5": ("missing", "not in visual.h5"),
        "clip6": ("missing", "not in visual.h5 and audio.npy"),
        "clip7": ("missing", "not in audio.npy"),
        "clip8": ("not-finite", "audio features up to inf do not fit float32"),
    }  # fmt: skip
    again = imported(tmp_path)
    assert (again.done, again.already, again.failures) == (8, N - 8, {})
    assert len(TokenCache(tmp_path / "cache").present()) == N


def test_a_damaged_dataset_is_one_failure(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "visual.h5", "w") as file:
        for name, array in VISUAL.items():
            file.create_dataset(name, data=array, fletcher32=True, chunks=array.shape)
        place = file["clip9"].id.get_chunk_info(0).byte_offset
    data = bytearray((tmp_path / "visual.h5").read_bytes())
    data[place + 100] ^= 1
    (tmp_path / "visual.h5").write_bytes(data)
    write_hdf5(tmp_path / "audio.h5", AUDIO)
    visual_path, audio_path = tmp_path / "visual.h5", tmp_path / "audio.h5"
    with closing(open_features(visual_path)) as seen, closing(open_features(audio_path)) as heard:
        summary = import_features(tmp_path / "cache", INFO, CLIPS, seen, heard)
    assert summary.done == N - 1
    kind, detail = summary.failures["clip9"]
    assert kind == "damaged" and "visual.h5: 'clip9': " in detail and "\n" not in detail


def test_an_import_that_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    imported(tmp_path / "whole")

    class Stop(Exception):
        pass

    class Stopping(list[ImportProgress]):
        def append(self, _: ImportProgress) -> None:
            raise Stop

    with pytest.raises(Stop):
        imported(tmp_path / "broken", told=Stopping())
    assert len(TokenCache(tmp_path / "broken" / "cache").present()) == BATCH
    summary = imported(tmp_path / "broken")
    assert (summary.done, summary.already) == (N - BATCH, BATCH)
    whole, broken = (TokenCache(tmp_path / name / "cache") for name in ("whole", "broken"))
    assert whole.fingerprint == broken.fingerprint


def test_nothing_usable_leaves_no_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="none of the 21 clips can be used; 'clip0': missing: not in audio"):
        imported(tmp_path, audio={"other": AUDIO["clip0"]})
    assert not (tmp_path / "cache").exists()


def test_shapes_are_those_of_most_clips(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "v.h5", VISUAL | {"clip0": VISUAL["clip0"][1:]})
    write_hdf5(tmp_path / "a.h5", AUDIO)
    write_hdf5(tmp_path / "w.h5", {key: value[1:] for key, value in VISUAL.items()})
    write_hdf5(tmp_path / "o.h5", {"other": AUDIO["clip0"]})
    with ExitStack() as stack:
        v, a, w, o = (
            stack.enter_context(closing(open_features(tmp_path / f"{name}.h5")))
            for name in ("v", "a", "w", "o")
        )
        assert released_shapes(CLIPS, v, a) == ((8, SPACE, WIDTH), (WIDTH,))
        with pytest.raises(
            CacheError, match=r"visual features \[23, 10\] in .*expected \[8 x S, D\] and \[D\]"
        ):
            released_shapes(CLIPS, w, a)
        with pytest.raises(CacheError, match=r"the splits name 'clip0', the features 'clip0'.*of one data"):
            released_shapes(CLIPS, v, o)


def test_a_damaged_clip_has_no_say_about_shapes(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "v.h5", VISUAL)
    write_hdf5(tmp_path / "a.h5", AUDIO)
    with h5py.File(tmp_path / "v.h5", "a") as file:
        del file["clip0"]
        file["clip0"] = h5py.ExternalLink("/etc/passwd", "x")
    with closing(open_features(tmp_path / "v.h5")) as v, closing(open_features(tmp_path / "a.h5")) as a:
        assert released_shapes(CLIPS, v, a) == ((8, SPACE, WIDTH), (WIDTH,))
        with pytest.raises(CacheError, match="'clip0' is no dataset of this file"):
            released_shapes(CLIPS[:1], v, a)


def test_files_are_found_at_any_depth_or_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no a.npy or b.h5 in it; name the file by --visual"):
        find_released(tmp_path, ("a.npy", "b.h5"), "--visual")
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "b.h5").touch()
    assert find_released(tmp_path, ("a.npy", "b.h5"), "--visual") == tmp_path / "x" / "y" / "b.h5"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "here").symlink_to(tmp_path / "x")
    (tmp_path / "linked" / "back").symlink_to(tmp_path / "linked")
    assert find_released(tmp_path / "linked", ("b.h5",), "").name == "b.h5"
    (tmp_path / "a.npy").touch()
    with pytest.raises(CacheError, match="no such folder"):
        find_released(tmp_path / "nowhere", ("a.npy",), "--visual")
    with pytest.raises(CacheError, match=r"2 files could be meant \(.*a.npy, .*b.h5\); name one by --visual"):
        find_released(tmp_path, ("a.npy", "b.h5"), "--visual")
