"""What do statistics heads cost on a large problem, and does the cost grow in proportion to the clips?

    python -m benchmarks.heads
    python -m benchmarks.heads --methods ranpac
    python -m benchmarks.heads --scale 0.05

100 classes in 10 steps, 50 000 clips of 2304 made-up features (standard normal around class means), drawn
step by step. A head is driven as a run drives it: it learns the clips of a step and scores 5000 clips of the
classes seen. `--scale` multiplies clips, classes, widths and RanPAC's M = 10 000.

`seconds` are wall seconds of learning and scoring, of the slowest method, `processor_s` its processor time;
drawing features is not counted.
`linearity` is |t / 2 h - 1| of the first method, where t are the processor seconds in which all clips are
standardised and enter the sums, and h those of half of them; solving and scoring cost the same for both and
are left out. `peak_gb` is that of the process, the features of a step included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avcil.train.methods import find_method
from avcil.train.methods.statistics.head import StatisticsHead

STEPS = 10
SIGNAL = 0.1  # deviation of class means in every feature, whose own is 1
SEED = 0


@dataclass(frozen=True)
class Problem:
    """What is learned: `widths` are those of the sound and of the picture."""

    classes: int
    clips: int
    test_clips: int
    widths: tuple[int, int]
    dimensions: int

    @classmethod
    def scaled(cls, scale: float) -> Problem:
        """The one of the claim, so many times as large, with two classes a step at least."""
        classes = STEPS * max(2, round(10 * scale))
        clips, test_clips, audio, visual, dimensions = (
            max(1, round(count * scale)) for count in (50_000, 5000, 768, 1536, 10_000)
        )
        return cls(classes, max(4 * classes, clips), max(classes, test_clips), (audio, visual), dimensions)


@dataclass
class Cost:
    """Of one method: wall seconds, processor seconds of all and of the sums, accuracy after the last step."""

    learn_s: float = 0.0
    score_s: float = 0.0
    processor_s: float = 0.0
    sums_s: float = 0.0
    accuracy: float = 0.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["slda", "best"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    problem = Problem.scaled(asked.scale)
    print(problem, flush=True)
    half = run(asked.methods[0], replace(problem, clips=problem.clips // 2), score=False)
    costs = {}
    for method in asked.methods:
        cost = costs[method] = run(method, problem)
        print(
            f"{method}: {cost.learn_s:.1f} s to learn, {cost.score_s:.1f} s to score, {cost.processor_s:.1f} "
            f"processor s; accuracy {100 * cost.accuracy:.1f} %, peak so far {peak_gb():.2f} GB",
            flush=True,
        )
    slowest = max(costs.values(), key=lambda cost: cost.learn_s + cost.score_s)
    print(
        json.dumps(
            {
                "seconds": round(slowest.learn_s + slowest.score_s, 2),
                "processor_s": round(slowest.processor_s, 2),
                "peak_gb": round(peak_gb(), 3),
                "linearity": round(abs(costs[asked.methods[0]].sums_s / half.sums_s / 2 - 1), 3),
                "methods": asked.methods,
                "scale": asked.scale,
                "threads": asked.threads,
            }
        )
    )


def run(name: str, problem: Problem, *, score: bool = True) -> Cost:
    """Learn all steps and score after each."""
    chosen = {"dimensions": problem.dimensions} if name == "ranpac" else {}
    method, settings = find_method(name).configured(chosen)
    head, cost, per_step = method.head(settings=settings), Cost(), problem.classes // STEPS
    assert isinstance(head, StatisticsHead)
    generator = torch.Generator().manual_seed(SEED)
    means = [SIGNAL * normal(generator, problem.classes, width) for width in problem.widths]
    for step in range(STEPS):
        seen = (step + 1) * per_step
        labels = seen - per_step + torch.arange(problem.clips // STEPS) % per_step
        streams = drawn(head, generator, means, labels)
        began, began_cpu = time.perf_counter(), time.process_time()
        with processor_s(type(head), "begun") as begun_s, processor_s(type(head), "solved") as solved_s:
            head = head.learned(streams, labels, seen, SEED)
        cost.learn_s += time.perf_counter() - began
        spent_s = time.process_time() - began_cpu
        cost.sums_s += spent_s - begun_s[0] - solved_s[0]
        cost.processor_s += spent_s
        if not score:
            continue
        labels = torch.arange(problem.test_clips) % seen
        streams = drawn(head, generator, means, labels)
        began, began_cpu = time.perf_counter(), time.process_time()
        right = head.scores_of(streams).argmax(dim=1) == labels
        cost.score_s += time.perf_counter() - began
        cost.processor_s += time.process_time() - began_cpu
        cost.accuracy = float(right.double().mean())
    return cost


def drawn(
    head: StatisticsHead, generator: torch.Generator, means: list[Tensor], labels: Tensor
) -> list[Tensor]:
    """The streams of clips of these classes, as the head's fusion has them."""
    widths = [one.shape[1] for one in means]
    x = normal(generator, len(labels), sum(widths))
    for stream, mean in zip(torch.split(x, widths, dim=1), means, strict=True):
        stream += mean[labels]
    return list(torch.split(x, widths, dim=1)) if head.settings.fusion == "late" else [x]


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@contextmanager
def processor_s(owner: type, name: str) -> Iterator[list[float]]:
    """The processor seconds that calls of a method take in the meantime."""
    method, spent = getattr(owner, name), [0.0]

    def timed(*arguments: object) -> object:
        began = time.process_time()
        try:
            return method(*arguments)
        finally:
            spent[0] += time.process_time() - began

    setattr(owner, name, timed)
    try:
        yield spent
    finally:
        setattr(owner, name, method)


def peak_gb() -> float:
    """The most memory this process has had, in 1e9 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


if __name__ == "__main__":
    main()
