"""`avcil attend`: pictures and numbers of where a run's steps look."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from support.command_line import avcil
from support.small_demo import SmallDemo

from avcil.report.attention_figure import FRAME_MS


@pytest.mark.parametrize("reduce", ["class", "mean"])
def test_a_row_for_every_step(small_demo: SmallDemo, tmp_path: Path, reduce: str) -> None:
    label = next(one.parent.name for one in small_demo.held_back)
    out = tmp_path / "deep" / "attention"
    done = avcil(
        "attend", small_demo.run, small_demo.held_back[0], "--out", out, "--reduce", reduce, "--label", label
    )
    assert done.code == 0, done.err
    assert f"attention for the class {label}" in done.out and "step 1 predicts" in done.out
    written = json.loads((out / f"attention-{reduce}.json").read_text())
    assert written["class"] == label
    steps = written["steps"]
    assert [one["step"] for one in steps] == [1, 2, 3]
    for one in steps:
        assert np.shape(one["spatial"]) == (8, 16) and np.allclose(np.sum(one["spatial"], axis=1), 1)
        assert np.isclose(sum(one["temporal"]), 1)
    drifts = [one["drift_spatial"] for one in steps]
    known = [one for one in drifts if one is not None]
    assert known[0] == 0 and drifts[: 3 - len(known)] == [None] * (3 - len(known))
    assert all(one > 0 for one in known[1:])
    with Image.open(
        out / f"attention-{reduce}.gif"
    ) as film:  # frames that are the same are one, shown longer
        shown_ms = [one.info["duration"] for one in ImageSequence.Iterator(film)]
        assert sum(shown_ms) == 16 * FRAME_MS and len(shown_ms) > 1
    with Image.open(out / f"attention-{reduce}.png") as grid:
        assert grid.width > grid.height / 2 and len(grid.convert("RGB").getcolors(2**20)) > 1000


def test_what_cannot_be_drawn_is_one_line(small_demo: SmallDemo, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    options = ("--method", "finetune", "--modality", "audio", "--steps", 2, "--epochs", 1)
    assert avcil("train", small_demo.cache, "--out", audio, *options).code == 0
    video = small_demo.held_back[0]
    for arguments, words in (
        ((audio, video), "no audio-guided attention"),
        ((small_demo.run, video, "--label", "nothing"), "no class 'nothing'"),
        ((small_demo.run, video, "--reduce", "max"), "'max' is not one of"),
        ((small_demo.run, small_demo.run / "run.json"), "unreadable"),
    ):
        refused = avcil("attend", *arguments, "--out", tmp_path / "out")
        assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1, refused.err
    assert not (tmp_path / "out").exists()
