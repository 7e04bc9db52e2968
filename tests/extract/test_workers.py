"""Decode processes: deadlines, deaths, replacement and a clean end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.child_processes import children
from support.clip_work import DiesWhenUnpickled, act

from avcil.errors import AvcilError, DecodeError
from avcil.extract.sources.clip import Clip
from avcil.extract.workers import ClipResult, DecodePool, PoolOptions


def results(given: list[Clip], options: PoolOptions) -> list[ClipResult[int]]:
    with DecodePool(act, options) as pool:
        return list(pool.run(given))


def clips(*labels: str) -> list[Clip]:
    return [Clip(f"{i}-{label}", Path("x"), label, "train") for i, label in enumerate(labels)]


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    assert children("avcil.extract.child") == []


def test_without_workers_all_happens_here_in_order() -> None:
    found = results(clips("ok", "fail"), PoolOptions(0))
    assert [result.clip.label for result in found] == ["ok", "fail"]
    assert found[0].value == os.getpid()


def test_every_clip_has_one_result_whatever_happens() -> None:
    given = clips("ok", "hang", "die", "ok", "leave", "fail", *["ok"] * 8)
    found = results(given, PoolOptions(2, deadline_s=1.0))
    kinds = {o.clip.id: o.value.kind if isinstance(o.value, DecodeError) else "ok" for o in found}
    wanted = {"hang": "timeout", "die": "crashed", "leave": "crashed", "fail": "corrupt"}
    assert len(found) == len(given)
    assert kinds == {clip.id: wanted.get(clip.label, "ok") for clip in given}
    details = {o.clip.label: str(o.value) for o in found if isinstance(o.value, DecodeError)}
    assert "signal 9" in details["die"] and "exit code 3" in details["leave"] and "1 s" in details["hang"]


def test_a_worker_is_replaced_after_its_share() -> None:
    found = results(clips(*["ok"] * 6), PoolOptions(1, clips_per_worker=2))
    pids = [result.value for result in found]
    assert len(set(pids)) == 3 and os.getpid() not in pids


def test_waiting_for_the_consumer_is_no_timeout() -> None:
    with DecodePool(act, PoolOptions(2, deadline_s=1.0, ready=1)) as pool:
        found = pool.run(clips(*["ok"] * 6))
        first = next(found)
        time.sleep(1.5)  # a slow encoder: results wait meanwhile
        assert all(isinstance(result.value, int) for result in [first, *found])


def test_only_so_many_results_wait_for_the_consumer(tmp_path: Path) -> None:
    given = [Clip(str(i), tmp_path / str(i), "touch", "train") for i in range(12)]
    with DecodePool(act, PoolOptions(2, ready=3)) as pool:
        found = pool.run(given)
        next(found)
        time.sleep(1.0)
        assert len(list(tmp_path.iterdir())) == 1 + 2 + 3
        assert len(list(found)) == 11


def test_what_was_asked_for_later_is_worked_on_meanwhile(tmp_path: Path) -> None:
    with DecodePool(act, PoolOptions(2)) as pool:
        first = pool.run(clips("ok", "ok"))
        later = pool.run([Clip("later", tmp_path / "later", "touch", "train")])
        while not (tmp_path / "later").exists():
            time.sleep(0.01)
        assert [result.clip.id for result in later] == ["later"]
        assert sorted(result.clip.id for result in first) == ["0-ok", "1-ok"]


def test_leaving_early_ends_the_workers_at_once() -> None:
    with DecodePool(act, PoolOptions(2)) as pool:
        next(pool.run(clips("ok", "hang", "hang", "hang")))
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("label", ["ok", "hang"])
def test_an_interrupt_of_the_whole_group_ends_quickly_and_quietly(label: str) -> None:
    """`ok`: it comes while a worker starts or works, `hang`: while one works for ever."""
    code = f"""
import signal, sys, pathlib
from support.clip_work import act
from avcil.extract.sources.clip import Clip
from avcil.extract.workers import DecodePool, PoolOptions
clips = [Clip(str(i), pathlib.Path(), "{label}" if i else "ok", "train") for i in range(10**6)]
with DecodePool(act, PoolOptions(2)) as pool:
    for result in pool.run(clips):
        print(result.value, flush=True)
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
    with DecodePool(DiesWhenUnpickled(), PoolOptions(1)) as pool:
        found = pool.run(clips("ok"))
        with pytest.raises(AvcilError, match="decode workers die at their start"):
            list(found)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        PoolOptions(1, deadline_s=0)
