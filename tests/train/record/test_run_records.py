"""What a run notes of itself: its circumstances, its course and its cost."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch

from avcil.train.record.environment import describe_environment
from avcil.train.record.found_runs import find_runs
from avcil.train.record.journal import Journal, read_state
from avcil.train.record.records import EpochRecord
from avcil.train.record.step_costs import StepMeter

CPU = torch.device("cpu")
RECORD = EpochRecord(loss=0.5, terms={"cross_entropy": 0.5}, val_accuracy=None)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_revision_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outside = describe_environment(CPU, torch.bfloat16)
    assert outside.git_revision is None and outside.git_dirty is None and outside.device == "cpu"
    assert outside.products == "bfloat16"
    assert {"avcil", "python", "torch", "numpy", "h5py"} == set(outside.versions)
    git(tmp_path, "init")
    (tmp_path / "notes").write_text("one")
    git(tmp_path, "add", "notes")
    git(tmp_path, "commit", "-m", "notes")
    clean = describe_environment(CPU, torch.bfloat16)
    assert clean.git_revision and len(clean.git_revision) == 40 and clean.git_dirty is False
    (tmp_path / "notes").write_text("two")
    assert describe_environment(CPU, torch.bfloat16).git_dirty is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_environment(CPU, torch.bfloat16).git_revision is None


def test_events_are_cut_back_to_the_finished_steps(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, 3, 2)
    for step in range(2):
        for epoch in range(2):
            journal.epoch(step, epoch, RECORD)
        journal.step_done()
    journal.epoch(2, 0, RECORD)
    state = read_state(tmp_path)
    assert state is not None and (state.steps_done, state.epochs_done) == (2, 1) and not state.finished
    journal.close()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"step": 2, "epoch"')
    Journal(tmp_path, 1, 3, 2).close()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["step"], event["epoch"]) for event in events] == [(0, 0), (0, 1)]
    assert events[0]["terms"] == {"cross_entropy": 0.5} and events[0]["time_s"] >= 0


def test_the_state_is_that_of_the_finished_steps(tmp_path: Path) -> None:
    """Killed within a step, or between saving the last step and saying so."""
    journal = Journal(tmp_path, 0, 1, 2)
    journal.epoch(0, 0, RECORD)
    journal.close()
    for steps_done in (0, 1):
        Journal(tmp_path, steps_done, 1, 2).close()
        state = read_state(tmp_path)
        assert state is not None and (state.steps_done, state.epochs_done) == (steps_done, 0)
        assert state.finished == bool(steps_done)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": 3}'])
def test_a_damaged_state_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path) is None


def test_a_stage_within_a_stage_counts_once() -> None:
    meter = StepMeter(CPU)
    with meter.stage("train"):
        time.sleep(0.02)
        with meter.stage("validate"):
            time.sleep(0.06)
    assert 0.02 <= meter.stages["train"] < 0.06 <= meter.stages["validate"]
    assert sum(meter.stages.values()) <= meter.seconds


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset a peak")
def test_the_peak_is_that_of_the_step() -> None:
    large = bytearray(b"x" * 300_000_000)
    before = StepMeter(CPU).peak_memory.host_bytes
    del large
    assert StepMeter(CPU).peak_memory.host_bytes < before - 200_000_000


def test_runs_are_found_once_at_any_depth(tmp_path: Path) -> None:
    for name in ("a/seed-1", "a/seed-2", "b", ".c.partial-7"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    found = find_runs([tmp_path, tmp_path / "a", tmp_path / "b"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a/seed-1", "a/seed-2", "b"]
