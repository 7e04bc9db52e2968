"""What does a whole run cost, and where does its time go?

    python -m benchmarks.protocol --like ave-ci --scale 0.1
    python -m benchmarks.protocol --scale 0.1 --epochs 20 --precision fp32 --folder /dev/shm

Fills caches of made-up tokens in the shape of AVE-CI (28 classes in 4 steps of 7, clips of 8 x 196 x 768 in
float16) with `scale` times its clips, and trains them with AV-CIL by the path of `avcil train`.

Everything that is counted in clips is scaled: clips of a class (117 for training; 20 instead of 14 each for
validation and test, so that they divide), memory and both batches. An epoch then has three updates, as it
has at full size. Few `--epochs` are trained: what happens once a step weighs more here than in a run of 200.

A run of every scale in half, one and two times `--scale` shows how the cost of an epoch grows. It is taken in
processor seconds (other programs on the machine count little), the median over all epochs but the first of a
step. `linearity` is the largest departure of cost per clip from that at `--scale`. Stages are wall seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenCache, TokenSpec
from avcil.train.config import ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.plan import plan_run
from avcil.train.record.records import StepRecord
from avcil.train.run import TrainProgress, train_run

CLASSES, STEPS, MEMORY, BATCH, EXEMPLAR_BATCH = 28, 4, 340, 256, 128
PER_CLASS = {"train": 117.6, "val": 20.0, "test": 20.0}
TIME, SPACE, WIDTH = 8, 196, 768
PATTERNS = 8  # of noise, which clips share: what is drawn costs more than what is computed
LINEARITY_EPOCHS = 3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--like", choices=["ave-ci"], default="ave-ci")
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--precision", choices=["auto", "fp32"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the caches are put for the time being")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    costs = {}
    for scale in (asked.scale / 2, asked.scale, asked.scale * 2):
        epochs = asked.epochs if scale == asked.scale else LINEARITY_EPOCHS
        cost = run(scale, epochs, asked.precision, asked.folder)
        costs[scale] = cost
        print(
            f"scale {scale:g}: {cost.clips} clips an epoch, {cost.epoch_s:.2f} processor s an epoch",
            flush=True,
        )
        if scale == asked.scale:
            whole = cost
            for step, stages in enumerate(cost.stages):
                costs_s = ", ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items())
                print(f"  step {step + 1}: {costs_s}; peak {cost.peak_gb[step]:.2f} GB", flush=True)
    per_clip = {scale: cost.epoch_s / cost.clips for scale, cost in costs.items()}
    totals = {name: sum(stages.get(name, 0.0) for stages in whole.stages) for name in whole.stages[0]}
    fitted = totals["train"] + totals["validate"]
    print(
        json.dumps(
            {
                "scale": asked.scale,
                "epochs": asked.epochs,
                "precision": asked.precision,
                "threads": asked.threads,
                "stages_s": {name: round(seconds, 2) for name, seconds in totals.items()},
                "train_validate_share": round(fitted / sum(totals.values()), 3),
                "seconds_per_step": round(sum(totals.values()) / STEPS, 2),
                "linearity": round(max(abs(x / per_clip[asked.scale] - 1) for x in per_clip.values()), 3),
            }
        )
    )


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Attributes:
        clips: that go through an epoch of the last step: current, exemplars, and validation.
        epoch_s: processor seconds of such an epoch.
        stages: wall seconds of every step by stage.
        peak_gb: of every step.
    """

    clips: int
    epoch_s: float
    stages: list[dict[str, float]]
    peak_gb: list[float]


def run(scale: float, epochs: int, precision: str, folder: Path | None) -> Cost:
    """Train a whole protocol and say what it cost."""
    training = TrainingConfig(
        epochs=epochs,
        batch=round(BATCH * scale),
        exemplar_batch=round(EXEMPLAR_BATCH * scale),
        precision="fp32" if precision == "fp32" else "auto",
        device="cpu",
    )
    needed = CLASSES - CLASSES // STEPS  # every old class of the last step has an exemplar
    protocol = ProtocolConfig(steps=STEPS, memory=max(needed, round(MEMORY * scale)))
    marks: list[tuple[int, float]] = []
    records: list[StepRecord] = []

    def mark(now: TrainProgress) -> None:
        marks.append((now.step, time.process_time()))

    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        cache = fill(Path(temporary) / "cache", scale)
        plan = plan_run(cache, RunConfig(protocol=protocol, training=training))
        train_run(plan, Path(temporary) / "run", on_progress=mark, on_step=records.append)
    last = [at for step, at in marks if step == STEPS - 1]
    current = records[-1].train_clips // training.batch
    return Cost(
        current * (training.batch + training.exemplar_batch) + CLASSES * clips_of_a_class(scale)["val"],
        statistics.median(after - before for before, after in pairwise(last)),
        [dict(record.stages.items()) for record in records],
        [record.peak_memory.host_bytes / 1e9 for record in records],
    )


def clips_of_a_class(scale: float) -> dict[str, int]:
    """By split."""
    return {split: max(1, round(count * scale)) for split, count in PER_CLASS.items()}


def fill(path: Path, scale: float) -> TokenCache:
    """A cache in the shape of AVE's."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((PATTERNS, TIME, SPACE, WIDTH), dtype=np.float32)
    directions = rng.standard_normal((2, CLASSES, WIDTH), dtype=np.float32) / 4
    none = EncoderInfo("made up", "0" * 64)
    info = CacheInfo(TokenSpec(noise.shape[1:], "float16"), TokenSpec((WIDTH,), "float32"), {}, none, none)
    clips = [
        CacheClip(f"{split}-{label:02d}-{number:03d}", f"class-{label:02d}", split)
        for split, count in clips_of_a_class(scale).items()
        for label in range(CLASSES)
        for number in range(count)
    ]
    with CacheWriter.open(path, info, clips) as writer:
        for clip in clips:
            label = int(clip.label.removeprefix("class-"))
            visual = noise[rng.integers(PATTERNS)] + directions[0, label]
            audio = rng.standard_normal(WIDTH, dtype=np.float32) + directions[1, label]
            writer.write([clip.id], visual[None], audio[None])
    return TokenCache(path)


if __name__ == "__main__":
    main()
