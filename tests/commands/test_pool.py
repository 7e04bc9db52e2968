"""`avcil extract --pool`, `avcil cache pool` and what is done with their caches, as people use them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.command_line import DEMO_ENCODERS, avcil
from support.small_demo import SmallDemo

from avcil.cache import TokenCache
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.tokens.loading import TokenNeeds, load_once

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pooled(small_demo: SmallDemo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pooled") / "cache"
    done = avcil("cache", "pool", small_demo.cache, "--out", path)
    assert done.code == 0 and f"cache: {path}\n" in done.out, done.err
    assert "72 clips pooled, 0 there before: 1.2 kB a clip instead of 25.0" in done.out
    return path


def predicted(run: Path, *videos: Path) -> dict[str, dict[str, float]]:
    done = avcil("predict", run, *videos, "--json", "--workers", 0)
    assert done.code == 0, done.err
    found = json.loads(done.out)["videos"]
    return {Path(one["video"]).stem: one.get("probabilities") or one["scores"] for one in found}


def from_cache(cache: Path, run: Path, ids: list[str]) -> dict[str, dict[str, float]]:
    opened = Run.open(run)
    classifier = load_classifier(opened, opened.steps_done - 1, CPU)
    found = {}
    for clip_id in ids:  # one at a time, as a video is: a product of several rows rounds otherwise
        tokens = load_once(TokenCache(cache), [clip_id], TokenNeeds(**opened.facts.needs), CPU)
        scores = classifier.scores(tokens)[0]
        scores = scores.softmax(0) if classifier.log_probabilities else scores
        found[clip_id] = dict(zip(opened.facts.classes, scores.tolist(), strict=True))
    return found


@pytest.mark.parametrize("options", [("--pool", "mean-std"), ("--grid", 2), ("--grid", 2, "--pool", "mean")])
@pytest.mark.parametrize("tokens", ["float16", "int8"])
def test_extracting_less_is_extracting_and_pooling(
    options: tuple[str | int, ...], tokens: str, small_demo: SmallDemo, tmp_path: Path
) -> None:
    source = tmp_path / "few.csv"
    lines = (small_demo.videos.parent / "clips.csv").read_text().splitlines()
    root = small_demo.videos.parent
    few = [lines[0], *(line.replace("videos/", f"{root}/videos/", 1) for line in lines[1:4])]
    source.write_text("\n".join(few))
    extract = ["extract", source, *DEMO_ENCODERS, "--tokens", tokens, "--workers", 0]
    assert avcil(*extract, "--out", tmp_path / "whole").code == 0
    once = avcil(*extract, "--out", tmp_path / "once", *options)
    assert once.code == 0, once.err
    then = ("--statistics" if one == "--pool" else one for one in options)
    assert avcil("cache", "pool", tmp_path / "whole", "--out", tmp_path / "then", *then).code == 0
    first, second = TokenCache(tmp_path / "once"), TokenCache(tmp_path / "then")
    assert first.info == second.info and first.fingerprint == second.fingerprint
    shown = avcil("cache", "info", tmp_path / "once").out
    assert f"visual tokens: {first.info.visual_reduction}" in shown and " kB a clip" in shown


@pytest.mark.parametrize("method", ["slda", "finetune"])
def test_new_videos_score_as_from_a_pooled_cache(
    method: str, small_demo: SmallDemo, pooled: Path, tmp_path: Path
) -> None:
    run, options = tmp_path / "run", ["--method", method, "--steps", 2, "--epochs", 2]
    if method == "finetune":
        options += ["--modality", "visual"]
    trained = avcil("train", pooled, "--out", run, *options)
    assert trained.code == 0, trained.err
    assert avcil("eval", run).code == 0
    videos = small_demo.held_back[:4]
    assert predicted(run, *videos) == from_cache(pooled, run, [video.stem for video in videos])
    refused = avcil("attend", run, videos[0], "--out", tmp_path / "maps")
    assert refused.code == 2 and "was trained on the mean, std of visual tokens" in refused.err
    assert refused.err.count("\n") == 1 and not (tmp_path / "maps").exists()


def test_a_statistics_head_is_given_statistics_of_new_videos(small_demo: SmallDemo, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert avcil("train", small_demo.cache, "--out", run, "--method", "slda", "--steps", 2).code == 0
    videos = small_demo.held_back[:4]
    assert predicted(run, *videos) == from_cache(small_demo.cache, run, [video.stem for video in videos])


def test_attention_on_a_coarser_grid_is_drawn(small_demo: SmallDemo, tmp_path: Path) -> None:
    grid, run, out = tmp_path / "grid", tmp_path / "run", tmp_path / "maps"
    assert avcil("cache", "pool", small_demo.cache, "--out", grid, "--grid", 2).code == 0
    assert avcil("train", grid, "--out", run, "--steps", 2, "--memory", 24, "--epochs", 1).code == 0
    done = avcil("attend", run, small_demo.held_back[0], "--out", out)
    assert done.code == 0, done.err
    steps = json.loads((out / "attention-class.json").read_text())["steps"]
    assert np.shape(steps[0]["spatial"]) == (8, 4)


def test_what_cannot_be_done_is_one_line(small_demo: SmallDemo, pooled: Path, tmp_path: Path) -> None:
    source = small_demo.videos.parent / "clips.csv"
    for arguments, words in (
        (("train", pooled, "--steps", 2), "'avcil', audio-visual, attends to single visual tokens"),
        (("cache", "pool", pooled), "reduced already (mean, std over time and space of [8, 16, "),
        (("cache", "pool", small_demo.cache, "--grid", 3), "choose 1 or 2"),
        (("extract", source, *DEMO_ENCODERS, "--grid", 3), "choose 1 or 2"),
        (("extract", source, *DEMO_ENCODERS, "--pool", "median"), "'median' is not one of"),
        (("cache", "pool", tmp_path), "is not a token cache"),
    ):
        refused = avcil(*arguments, "--out", tmp_path / "out")
        assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1, refused.err
        assert not (tmp_path / "out").exists()
    other = avcil("extract", source, "--out", pooled, *DEMO_ENCODERS)
    assert other.code == 2 and "holds other tokens; visual.dtype" in other.err
