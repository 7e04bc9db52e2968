"""Broken and odd files: each ends as a clip or as a typed failure, none hangs, none stops the others."""

import time

import pytest
from support.odd_files import DangerousWork, OddFile, odd_files

from avcil.errors import DecodeError
from avcil.extract.media.contract import FAILURE_KINDS
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.recipe import recommended
from avcil.extract.sources.manifest import Clip
from avcil.extract.workers import PoolOptions, process

DEADLINE_S = 3.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[OddFile]:
    return odd_files(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def outcomes(files: list[OddFile]) -> dict[str, PreparedClip | DecodeError]:
    """What becomes of every file in one pass through the worker pool, with two that no decoder survives."""
    clips = [Clip(file.path.name, file.path, "x", "train") for file in files]
    clips.insert(10, Clip("sleeps", files[0].path, "sleeps", "train"))
    clips.insert(20, Clip("killed", files[0].path, "killed", "train"))
    began_s = time.monotonic()
    work = DangerousWork(Preparation(recommended()))
    done = list(process(clips, work, PoolOptions(2, deadline_s=DEADLINE_S)))
    assert time.monotonic() - began_s < 60
    assert sorted(outcome.clip.id for outcome in done) == sorted(clip.id for clip in clips)
    return {outcome.clip.id: outcome.value for outcome in done}


def kind_of(value: PreparedClip | DecodeError) -> str:
    return value.kind if isinstance(value, DecodeError) else "ok"


def test_there_are_enough_of_them(files: list[OddFile]) -> None:
    assert len(files) == len({file.path.name for file in files}) > 80


def test_every_file_becomes_what_it_may(
    files: list[OddFile], outcomes: dict[str, PreparedClip | DecodeError]
) -> None:
    wrong = {
        file.path.name: str(outcomes[file.path.name])
        for file in files
        if kind_of(outcomes[file.path.name]) not in file.outcomes
    }
    assert wrong == {}


def test_clips_are_whole_and_failures_are_explained(outcomes: dict[str, PreparedClip | DecodeError]) -> None:
    for value in outcomes.values():
        if isinstance(value, DecodeError):
            assert value.kind in FAILURE_KINDS and value.kind != "internal" and value.detail
        else:
            assert value.frames.shape == (16, 224, 224, 3) and value.mel.shape == (1024, 128)
            assert not value.missing_audio


def test_a_decoder_that_sleeps_or_is_killed(outcomes: dict[str, PreparedClip | DecodeError]) -> None:
    assert (kind_of(outcomes["sleeps"]), kind_of(outcomes["killed"])) == ("timeout", "crashed")


def test_most_of_a_rotten_file_survives(outcomes: dict[str, PreparedClip | DecodeError]) -> None:
    kinds = [kind_of(value) for name, value in outcomes.items() if "_rot_" in name]
    assert len(kinds) == 40 and 10 < kinds.count("ok") < 40
