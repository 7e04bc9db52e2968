"""The evaluation of a finished run: clips are classified again with the network of every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from avcil.cache import TokenCache
from avcil.errors import ConfigError, RunError
from avcil.train.plan import plan_run
from avcil.train.protocol import ClassClips, clip_set
from avcil.train.record import metrics
from avcil.train.record.results import Results, Split, StepPredictions, measure
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.tokens.loading import load_once


def evaluate_run(
    run: Run,
    cache_paths: Sequence[Path] = (),
    on_step: Callable[[int, int], None] = lambda done, total: None,
    *,
    split: Split = "test",
) -> Results:
    """Classify clips again with every step's network and compare with training's record.

    Of test clips training recorded every prediction, of validation clips the accuracy of the kept epoch, if
    it validated at all.

    Args:
        run: a finished run.
        cache_paths: its caches, when they are no longer where training found them.
        on_step: called with the number of steps evaluated and of all steps.
        split: whose clips.

    Raises:
        RunError: the run is unfinished, its cache has changed, the predictions differ from the record, or a
            class has no validation clips.
        CacheError: the cache is gone or damaged.
    """
    if split not in get_args(Split):
        raise ConfigError(f"split is {split!r}; it must be one of {', '.join(get_args(Split))}")
    run.require_finished()
    cache = open_cache(run, cache_paths)
    # Where training ran does not matter: evaluate on what is here.
    anywhere = replace(run.config, training=replace(run.config.training, device="auto"))
    try:
        plan = plan_run(cache, anywhere)
    except ConfigError as error:
        raise ConfigError(f"{run.path / 'config.toml'}: {error}") from error
    if (plan.protocol.classes, plan.protocol.step_sizes) != (run.facts.classes, run.facts.step_sizes):
        raise RunError(
            f"{run.path}: config.toml asks for other classes or steps than run.json lists; put back the one "
            "that was changed, or train again into another --out"
        )
    by_column = _clips_of(plan.clips, split, plan.protocol.classes)
    by_step: list[StepPredictions] = []
    for step in range(plan.protocol.steps):
        clips = clip_set(by_column, range(plan.protocol.seen(step)))
        tokens = load_once(cache, clips.ids, plan.needs, plan.device)
        with torch.inference_mode():
            predicted = load_classifier(run, step, plan.device).columns(tokens).tolist()
        by_step.append(StepPredictions(predicted, clips.columns))
        if split == "test":
            _compare(run, step, predicted)
        else:
            _compare_validation(run, step, by_step[-1])
        on_step(step + 1, plan.protocol.steps)
    records = [run.record(step) for step in range(run.steps_done)]
    return measure(run.config, run.facts, records, by_step, split)


def open_cache(run: Run, cache_paths: Sequence[Path] = ()) -> TokenCache:
    """The tokens a run was trained on, from `cache_paths` or from where training found them.

    Raises:
        RunError: they are no longer there, or others.
        CacheError: they cannot be read.
    """
    paths = tuple(cache_paths) or tuple(map(Path, run.facts.caches))
    gone = [path for path in paths if not path.is_dir()]
    if gone and not cache_paths:
        raise RunError(f"the cache of {run.path} is no longer at {gone[0]}; say where it is with --cache")
    cache = TokenCache(*paths)
    if cache.fingerprint != run.facts.cache_fingerprint:
        raise RunError(
            f"{' '.join(map(str, paths))} is not the cache that {run.path} was trained on, or it has changed "
            "since; give the right one with --cache, or train again"
        )
    return cache


def _clips_of(clips: ClassClips, split: Split, classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if split == "test":
        return clips.test
    empty = [name for name, ids in zip(classes, clips.val, strict=True) if not ids]
    if empty:
        raise RunError(f"no validation clips for class {empty[0]!r}; evaluate the test clips (--split test)")
    return clips.val


def _compare(run: Run, step: int, predicted: list[int]) -> None:
    recorded = run.record(step).predicted
    if len(predicted) != len(recorded):
        raise RunError(
            f"{run.path}: step {step} recorded {len(recorded)} predictions for {len(predicted)} test clips; "
            "its record is damaged, delete that step and all later ones and train again"
        )
    differing = sum(now != then for now, then in zip(predicted, recorded, strict=True))
    if differing > _tolerated(len(recorded)):
        raise RunError(
            f"{run.path}: {differing} of {len(recorded)} predictions of step {step} differ from those that "
            "training recorded; the weights or the tokens are not the ones it used"
        )


def _compare_validation(run: Run, step: int, now: StepPredictions) -> None:
    record = run.record(step)
    recorded = record.epochs[record.best_epoch].val_accuracy if record.epochs else None
    if recorded is None:
        return
    accuracy, clips = metrics.accuracy(now.predicted, now.true), len(now.true)
    if abs(accuracy - recorded) * clips > _tolerated(clips) + 0.5:
        raise RunError(
            f"{run.path}: validation accuracy of step {step} is {100 * accuracy:.1f} %, where training "
            f"recorded {100 * recorded:.1f}; the weights or the tokens are not the ones it used"
        )


def _tolerated(clips: int) -> int:
    """Another machine or thread count may round a tie the other way; more than that is damage."""
    return max(1, clips // 100)
