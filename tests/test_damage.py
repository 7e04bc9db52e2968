"""Structural damage in every file of a run and a cache: one clear line, whatever the files say.

The commands run in child processes with little memory to spare, which print each case before they try it: one
that ends the process, or never ends, is named. `python tests/test_damage.py FOLDER 9 0 2000` tries all seeds
from 0 to 1999 with up to nine commands each.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.clip_files import write_clip
from support.command_line import avcil
from support.damage import TARGETS, Target

from avcil.cache import CacheClip, CacheWriter
from avcil.cache.folder import append_flags
from avcil.extract.options import ExtractOptions, build_token_encoder

CASES, CHILDREN, COMMANDS = 150, 2, 2
MEMORY_BYTES, SECONDS = 10**9, 5
MOST_LINES = 8  # of an error; of predictions, one a video
RUNS = {"run-a": "avcil", "run-b": "icarl-nme", "run-s": "slda"}
LABELS = ("bark", "meow", "quack", "roar")
TRAIN = ["--steps", 2, "--memory", 8, "--epochs", 1, "--device", "cpu"]


@dataclass(frozen=True)
class Case:
    """What came of one command on one damaged file."""

    seed: int
    file: str
    command: str
    code: int
    lines: int
    seconds: float
    peak_bytes: int
    said: str

    @property
    def bad(self) -> bool:
        late, large = self.seconds > SECONDS, self.peak_bytes > MEMORY_BYTES
        loud = self.code == 2 and self.lines > MOST_LINES
        return self.code not in (0, 1, 2) or late or large or loud or "allocate" in self.said


def make(folder: Path) -> None:
    """A cache of random tokens for the demo's encoders, finished runs and one that is not, and a video."""
    info = build_token_encoder(ExtractOptions(visual_encoder="demo", audio_encoder="demo", device="cpu")).info
    clips = [
        CacheClip(f"{label} {split} {number}", label, split, "a.mp4")
        for label in LABELS
        for split, count in (("train", 4), ("val", 1), ("test", 2))
        for number in range(count)
    ]
    rng = np.random.default_rng(0)
    with CacheWriter.open(folder / "cache", info, clips, shards=2) as writer:
        ids = [clip.id for clip in clips[:-1]]
        visual = rng.standard_normal((len(ids), *info.visual.shape)).astype(np.float32)
        writer.write(ids, visual, rng.standard_normal((len(ids), *info.audio.shape)).astype(np.float32))
        writer.record_failure(clips[-1].id, "corrupt", "cut short")
        writer.record_flags({ids[0]: "missing-audio"})
    append_flags(folder / "cache", {ids[1]: "missing-audio"})
    for name, method in RUNS.items():
        done = avcil("train", folder / "cache", "--out", folder / name, "--method", method, *TRAIN)
        assert done.code == 0, done.err
    shutil.copytree(folder / "run-a", folder / "run-c")
    shutil.rmtree(folder / "run-c" / "step-01")
    clip = write_clip(folder / "clip.mp4", n_frames=4, seconds=0.4)
    for name in RUNS:
        for arguments in (["eval", folder / name], ["predict", folder / name, clip, "--workers", 0]):
            done = avcil(*arguments)
            assert done.code == 0, done.err


def commands(file: Path, folder: Path) -> Iterator[tuple[str, list[object]]]:
    """What reads a file of a run or a cache."""
    run = folder / file.relative_to(folder).parts[0]
    if run.name == "cache":
        yield "cache info", ["cache", "info", run]
        yield "cache verify", ["cache", "verify", run, "--threads", 1]
        yield "eval", ["eval", folder / "run-a"]
        return
    yield "compare", ["compare", *sorted(folder.glob("run*"))]
    if run.name in RUNS:
        yield "eval", ["eval", run]
        yield "train", ["train", folder / "cache", "--out", run, "--method", RUNS[run.name], *TRAIN]
    yield "predict", ["predict", run, folder / "clip.mp4", "--workers", 0, "--device", "cpu"]


def try_seeds(folder: Path, most: int, seeds: range) -> None:
    """Damage a file of a copy for every seed and run some commands that read it, at most `most`."""
    make(folder / "whole")
    for target in TARGETS:
        assert list((folder / "whole").glob(target.pattern)), target.pattern
    damaged = folder / "damaged"
    for seed in seeds:
        draw = random.Random(seed)
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(folder / "whole", damaged)
        _point_to(damaged, folder / "whole")
        target = draw.choices(TARGETS, [one.weight for one in TARGETS])[0]
        file = draw.choice(sorted(damaged.glob(target.pattern)))
        damage(target, file, draw)
        reading = list(commands(file, damaged))
        for name, arguments in draw.sample(reading, min(most, len(reading))):
            print(f"trying seed {seed}: {file.relative_to(damaged)}, {name}", file=sys.stderr, flush=True)
            print(json.dumps(vars(tried(seed, str(file.relative_to(damaged)), name, arguments))), flush=True)


def damage(target: Target, file: Path, draw: random.Random) -> None:
    """Change the file, for sure."""
    before = file.read_bytes()
    while file.read_bytes() == before:
        target.damage(file, draw)


def _point_to(folder: Path, made: Path) -> None:
    """Make the runs of a copy look for its own cache."""
    for path in folder.glob("run*/run.json"):
        path.write_text(path.read_text().replace(str(made), str(folder)))


def tried(seed: int, file: str, name: str, arguments: list[object]) -> Case:
    """Run a command in this process, in little memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory begins anew
    before, began = _memory("VmRSS"), time.process_time()  # the machine may have more to do
    with _limits():
        try:
            done = avcil(*arguments)  # type: ignore[arg-type]
            code, said = done.code, done.err
        except BaseException:
            code, said = -1, traceback.format_exc()
    seconds, peak = time.process_time() - began, _memory("VmHWM") - before
    return Case(seed, file, name, code, said.count("\n"), seconds, peak, said[-3000:])


@contextmanager
def _limits() -> Iterator[None]:
    """Let the system end what takes far too long, and give no more than the limit of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + MEMORY_BYTES, resource.RLIM_INFINITY))
    signal.alarm(6 * SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{name}:"))


def test_structural_damage_is_one_clear_line(tmp_path: Path) -> None:
    def run(first: int) -> subprocess.CompletedProcess[str]:
        numbers = map(str, (COMMANDS, first, CASES, CHILDREN))
        command = [sys.executable, "-X", "faulthandler", __file__, str(tmp_path / str(first)), *numbers]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    with ThreadPoolExecutor(CHILDREN) as pool:
        children = list(pool.map(run, range(CHILDREN)))
    cases: list[Case] = []
    for child in children:
        assert child.returncode == 0, child.stderr[-3000:]
        cases += [Case(**json.loads(line)) for line in child.stdout.splitlines()]
    assert len({case.seed for case in cases}) == CASES
    assert not [case for case in cases if case.bad]
    assert {case.code for case in cases} >= {0, 2}


if __name__ == "__main__":
    folder, most, *numbers = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    try_seeds(Path(folder), int(most), range(*map(int, numbers)))
