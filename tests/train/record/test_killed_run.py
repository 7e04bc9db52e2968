"""A run that dies at any moment goes on and ends with the bytes of one that did not."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from avcil.cache import SyntheticSpec, write_synthetic_cache
from avcil.train.record.journal import read_state
from avcil.train.record.run_folder import Run

STEPS, EPOCHS, UPDATES = 3, 4, 2  # classes x train / batch = 2 updates an epoch
TRAIN = """
import os, signal, sys
from pathlib import Path
import torch
from avcil import cli

what, after = sys.argv.pop(1), int(sys.argv.pop(1))
owner, name = (torch.optim.Adam, "step") if what == "update" else (Path, what)
original = getattr(owner, name)

def counted(*arguments, **options):
    global after
    after -= 1
    if after == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, counted)
cli.main()
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SyntheticSpec(classes=6, train=8, val=2, test=3, space=4, width=16))
    return path


def train(cache: Path, out: Path, method: str, die_at: tuple[str, int]) -> int:
    options = [
        "--method",
        method,
        "--steps",
        STEPS,
        "--epochs",
        EPOCHS,
        "--memory",
        12,
        "--protocol",
        cache.parent / "small.toml",
    ]
    (cache.parent / "small.toml").write_text("[training]\nbatch = 8\nexemplar_batch = 6\ndevice = 'cpu'\n")
    command = [sys.executable, "-c", TRAIN, *die_at, "train", cache, "--out", out, *options]
    return subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode


def outcome(run: Path) -> dict[str, bytes]:
    files = [*run.glob("step-*/*.safetensors"), run / "results.json", run / "config.toml"]
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(files)}


def epochs(run: Path) -> list[dict[str, object]]:
    lines = (run / "events.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "time_s"} for line in lines]


DICE = random.Random(5)
IN_A_STEP = [DICE.randrange(1, EPOCHS * UPDATES) for _ in range(3)]  # updates that were made
EVERYWHERE = [
    ("rename", 1),  # the folder of the run is not there yet
    ("update", IN_A_STEP[0]),  # in the first step
    ("rename", 1),  # the first step is trained, and not yet under its name
    ("update", EPOCHS * UPDATES + IN_A_STEP[1]),  # the first step is saved, in the second
    ("replace", 3),  # while the state is written
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "deaths"),
    [("avcil", EVERYWHERE), ("icarl-nme", [("update", EPOCHS * UPDATES + IN_A_STEP[2])])],
)
def test_a_killed_run_ends_like_an_uninterrupted_one(
    method: str, deaths: list[tuple[str, int]], cache: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(cache, whole, method, ("update", 0)) == 0
    for death in deaths:
        assert train(cache, broken, method, death) == -9, death
    with (broken / "events.jsonl").open("a") as file:
        file.write('{"step": 0, "epo')  # a line torn by a lost power supply
    assert train(cache, broken, method, ("update", 0)) == 0
    assert outcome(broken) == outcome(whole) and len(outcome(whole)) >= STEPS + 2
    assert epochs(broken) == epochs(whole) and len(epochs(whole)) == STEPS * EPOCHS
    state = read_state(broken)
    assert state is not None and state.finished and state.steps_done == STEPS
    assert not [path for path in broken.rglob(".*")]


def test_a_step_says_what_it_cost(cache: Path, tmp_path: Path) -> None:
    assert train(cache, tmp_path / "run", "avcil", ("update", 0)) == 0
    record = Run.open(tmp_path / "run").record(STEPS - 1)
    assert set(record.stages) == {"load", "prepare", "train", "validate", "test", "save"}
    assert 0 < sum(record.stages.values()) <= record.seconds
    assert record.peak_memory.host_bytes > 50e6 and record.peak_memory.device_bytes is None
