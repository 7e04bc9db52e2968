"""Decode processes: deadlines, deaths, replacement and a clean end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clip_work import DiesWhenUnpickled, act

from avcil.errors import AvcilError, DecodeError
from avcil.extract.sources.manifest import Clip
from avcil.extract.workers import PoolOptions, process


def clips(*labels: str) -> list[Clip]:
    return [Clip(f"{i}-{label}", Path("x"), label, "train") for i, label in enumerate(labels)]


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def test_without_workers_all_happens_here_in_order() -> None:
    outcomes = list(process(clips("ok", "fail"), act, PoolOptions(0)))
    assert [outcome.clip.label for outcome in outcomes] == ["ok", "fail"]
    assert outcomes[0].value == os.getpid()


def test_every_clip_has_one_outcome_whatever_happens() -> None:
    given = clips("ok", "hang", "die", "ok", "leave", "fail", *["ok"] * 8)
    outcomes = list(process(given, act, PoolOptions(2, deadline_s=1.0)))
    kinds = {o.clip.id: o.value.kind if isinstance(o.value, DecodeError) else "ok" for o in outcomes}
    wanted = {"hang": "timeout", "die": "crashed", "leave": "crashed", "fail": "corrupt"}
    assert len(outcomes) == len(given)
    assert kinds == {clip.id: wanted.get(clip.label, "ok") for clip in given}
    details = {o.clip.label: str(o.value) for o in outcomes if isinstance(o.value, DecodeError)}
    assert "signal 9" in details["die"] and "exit code 3" in details["leave"] and "1 s" in details["hang"]


def test_a_worker_is_replaced_after_its_share() -> None:
    outcomes = list(process(clips(*["ok"] * 6), act, PoolOptions(1, clips_per_worker=2)))
    pids = [outcome.value for outcome in outcomes]
    assert len(set(pids)) == 3 and os.getpid() not in pids


def test_waiting_for_the_consumer_is_no_timeout() -> None:
    outcomes = process(clips(*["ok"] * 6), act, PoolOptions(2, deadline_s=1.0, ready=1))
    first = next(outcomes)
    time.sleep(1.5)  # a slow encoder: results wait in the queue meanwhile
    assert all(isinstance(outcome.value, int) for outcome in [first, *outcomes])


def test_leaving_early_ends_the_workers_at_once() -> None:
    outcomes = process(clips("ok", "hang", "hang", "hang"), act, PoolOptions(2))
    next(outcomes)
    began_s = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("label", ["ok", "hang"])
def test_an_interrupt_of_the_whole_group_ends_quickly_and_quietly(label: str) -> None:
    """`ok`: it comes while a worker starts or works, `hang`: while one works for ever."""
    code = f"""
import signal, sys, pathlib
from support.clip_work import act
from avcil.extract.sources.manifest import Clip
from avcil.extract.workers import PoolOptions, process
if __name__ == "__main__":
    clips = [Clip(str(i), pathlib.Path(), "{label}" if i else "ok", "train") for i in range(10**6)]
    for outcome in process(clips, act, PoolOptions(2)):
        print(outcome.value, flush=True)
"""
    script = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with script:
        assert script.stdout
        worker_pid = int(script.stdout.readline())
        began_s = time.monotonic()
        os.killpg(script.pid, signal.SIGINT)
        _, errors = script.communicate(timeout=20)
    assert time.monotonic() - began_s < 5
    assert errors.strip().endswith("KeyboardInterrupt") and errors.count("Traceback") == 1
    with pytest.raises(ProcessLookupError):
        os.kill(worker_pid, 0)


def test_workers_that_cannot_start_are_an_error_not_a_loop() -> None:
    with pytest.raises(AvcilError, match="decode workers die at their start"):
        list(process(clips("ok"), DiesWhenUnpickled(), PoolOptions(1)))


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        PoolOptions(1, deadline_s=0)
