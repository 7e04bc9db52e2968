"""`avcil predict`: new videos score as the same clips do in the cache, and bad files stop nothing."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from support.command_line import DEMO_ENCODERS, avcil
from support.small_demo import SmallDemo

from avcil.cache import TokenCache
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.tokens.batches import ResidentTokens

CPU = torch.device("cpu")


def scores(run: Path, *videos: Path, options: tuple[str | int, ...] = ()) -> dict[str, dict[str, float]]:
    done = avcil("predict", run, *videos, "--json", "--workers", 0, *options)
    assert done.code == 0, done.err
    return {Path(one["video"]).stem: one["probabilities"] for one in json.loads(done.out)["videos"]}


def scores_from_cache(cache: Path, run: Path, ids: list[str], step: int) -> dict[str, dict[str, float]]:
    folder = Run.open(run)
    tokens = TokenCache(cache).read(ids)
    resident = ResidentTokens(torch.from_numpy(tokens.audio), torch.from_numpy(tokens.widened()))
    shares = load_classifier(folder, step, CPU).scores(resident).softmax(1)
    labels = folder.facts.classes[: shares.shape[1]]
    return {id: dict(zip(labels, row, strict=True)) for id, row in zip(ids, shares.tolist(), strict=True)}


@pytest.mark.parametrize("step", [1, 3])
def test_twenty_held_back_videos_score_exactly_as_from_the_cache(small_demo: SmallDemo, step: int) -> None:
    videos = small_demo.held_back[:20]
    expected = scores_from_cache(small_demo.cache, small_demo.run, [video.stem for video in videos], step - 1)
    got = scores(small_demo.run, *videos, options=("--step", step))
    assert len(got) == 20 and got == expected
    assert all(list(one.values()) == sorted(one.values(), reverse=True) for one in got.values())


def test_a_score_depends_on_nothing_but_the_video(small_demo: SmallDemo) -> None:
    videos = small_demo.held_back[:20]
    together = scores(small_demo.run, *videos)
    assert scores(small_demo.run, videos[7], options=("--workers", 1)) == {
        videos[7].stem: together[videos[7].stem]
    }
    assert scores(small_demo.run, *videos[::-3], options=("--batch", 3)).items() <= together.items()


def test_int8_tokens_round_new_videos_too(small_demo: SmallDemo, tmp_path: Path) -> None:
    cache, run = tmp_path / "cache", tmp_path / "run"
    source = small_demo.videos.parent / "clips.csv"
    assert avcil("extract", source, "--out", cache, "--tokens", "int8", *DEMO_ENCODERS).code == 0
    assert avcil("train", cache, "--out", run, "--steps", 2, "--memory", 24, "--epochs", 1).code == 0
    videos = small_demo.held_back[:5]
    assert scores(run, *videos) == scores_from_cache(cache, run, [video.stem for video in videos], 1)


def test_the_cache_is_not_needed(small_demo: SmallDemo, tmp_path: Path) -> None:
    moved = shutil.copytree(small_demo.run, tmp_path / "run")
    table = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps(table).replace(str(small_demo.cache), "/nowhere/cache"))
    video = small_demo.held_back[0]
    assert scores(moved, video) == scores(small_demo.run, video)


def test_a_folder_with_a_bad_file(small_demo: SmallDemo, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    shutil.copy(small_demo.held_back[0], tmp_path / "deep" / "good.mp4")
    (tmp_path / "noise.mp4").write_bytes(b"not a video" * 100)
    done = avcil("predict", small_demo.run, tmp_path, tmp_path / "gone.mp4", "--top", 2, "--workers", 0)
    assert done.code == 0 and done.out.count("\n") == 1 and done.out.count(" %") == 2
    assert "noise.mp4: unreadable" in done.err and "gone.mp4: missing" in done.err
    table = avcil("predict", small_demo.run, tmp_path, "--csv", "--top", 2, "--workers", 0)
    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert [(row["rank"], bool(row["error"])) for row in rows] == [("", True), ("1", False), ("2", False)]
    none = avcil("predict", small_demo.run, tmp_path / "noise.mp4", "--json", "--workers", 0)
    assert none.code == 2 and json.loads(none.out)["videos"][0]["error"]["kind"] == "unreadable"


def test_what_cannot_be_asked_is_one_line(small_demo: SmallDemo, tmp_path: Path) -> None:
    video = small_demo.held_back[0]
    for arguments, words in (
        ((small_demo.run, video, "--step", 4), "there is no step 4"),
        ((tmp_path, video), "not a run folder"),
        ((small_demo.run, tmp_path), "no videos below"),
        ((small_demo.run, video, "--json", "--csv"), "--json and --csv"),
    ):
        refused = avcil("predict", *arguments)
        assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1, refused.err
