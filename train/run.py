"""Runs: one step after the other, and how one that was interrupted goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from avcil.train.draws import Draws
from avcil.train.plan import Plan
from avcil.train.record.environment import describe_environment
from avcil.train.record.records import EpochRecord, RunFacts, StepRecord
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.step import train_step
from avcil.train.tokens.budget import TokenPlacement


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is: step and epoch count from 0, `record` is that of the epoch just finished."""

    step: int
    steps: int
    epoch: int
    epochs: int
    record: EpochRecord


def train_run(
    plan: Plan,
    out: Path,
    *,
    draws: Draws | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda progress: None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_tokens: Callable[[int, TokenPlacement], None] = lambda step, placement: None,
) -> Run:
    """Train all steps that are not finished yet and return the run.

    Every random choice derives from the seed, the step and the epoch, so a run that was killed goes on with
    the step it was in and ends with the numbers of an uninterrupted one.

    Args:
        plan: from `plan_run`.
        out: run folder; created, or continued when it holds the same run.
        draws: random choices to use instead of those of the configured seed.
        on_progress: called after every epoch.
        on_step: called when a step is finished and saved.
        on_tokens: called with a step and where its tokens stay, once they are there.

    Raises:
        RunError: `out` holds something else, or another process is training it.
        CacheError: tokens cannot be read.
    """
    protocol, config = plan.protocol, plan.config
    draws = draws or Draws(config.training.seed)
    method = plan.method
    facts = RunFacts(
        caches=tuple(str(path.resolve()) for path in plan.cache.paths),
        cache_fingerprint=plan.cache.fingerprint,
        tokens=plan.cache.info.content(),
        classes=protocol.classes,
        step_sizes=protocol.step_sizes,
        memory=protocol.memory,
        method_title=method.title,
        method_defaults=asdict(method.settings()),
        old_clips="all" if method.sees_everything else "exemplars" if method.replays else "none",
        needs=asdict(plan.needs),
        environment=describe_environment(plan.device, plan.products),
    )
    run = Run.create_or_resume(out, config, facts)
    with run.writing() as journal:

        def note(step: int, epoch: int, record: EpochRecord) -> None:
            journal.epoch(step, epoch, record)
            on_progress(TrainProgress(step, protocol.steps, epoch, config.training.epochs, record))

        classifier = load_classifier(run, run.steps_done - 1, plan.device) if run.steps_done else None
        for step in range(run.steps_done, protocol.steps):
            classifier = train_step(
                plan, run, step, classifier, draws, partial(note, step), partial(on_tokens, step)
            )
            journal.step_done()
            on_step(run.record(step))
        run.write_results()
    return run
