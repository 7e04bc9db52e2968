"""Owns the evaluation of a finished run: what was learned, what was forgotten; draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from avcil.cache import TokenCache
from avcil.errors import RunError
from avcil.train.protocol import clip_set
from avcil.train.results import Evaluation, Outcome, measure, recorded_results
from avcil.train.run import plan_run
from avcil.train.run_folder import RunFolder
from avcil.train.step_data import load_clips


def evaluate_run(
    run: RunFolder,
    cache_paths: Sequence[Path] = (),
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Classify the test clips again with every step's network and compare with training's record.

    Args:
        run: a finished run.
        cache_paths: its caches, when they are no longer where training found them.
        on_step: called with the number of steps evaluated and of all steps.

    Raises:
        RunError: the run is unfinished, its cache has changed, or the predictions differ from the record.
        CacheError: the cache is gone or damaged.
    """
    recorded_results(run)
    cache = open_cache(run, cache_paths)
    # Where training ran does not matter: evaluate on what is here.
    anywhere = replace(run.config, training=replace(run.config.training, device="auto"))
    plan = plan_run(cache, anywhere)
    outcomes: list[Outcome] = []
    for step in range(plan.protocol.steps):
        clips = clip_set(plan.clips.test, range(plan.protocol.seen(step)))
        test = load_clips(cache, clips, run.config.modality, plan.device)
        with torch.inference_mode():
            predicted = run.classifier(step, plan.device).columns(test.tokens).tolist()
        _compare(run, step, predicted)
        outcomes.append(Outcome(predicted, clips.columns))
        on_step(step + 1, plan.protocol.steps)
    return measure(run, outcomes)


def open_cache(run: RunFolder, cache_paths: Sequence[Path] = ()) -> TokenCache:
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


def _compare(run: RunFolder, step: int, predicted: list[int]) -> None:
    recorded = run.record(step).predicted
    if len(predicted) != len(recorded):
        raise RunError(
            f"{run.path}: step {step} recorded {len(recorded)} predictions for {len(predicted)} test clips; "
            "its record is damaged, delete that step and all later ones and train again"
        )
    differing = sum(now != then for now, then in zip(predicted, recorded, strict=True))
    # Another machine or thread count may round a tie the other way; more than that is damage.
    if differing > max(1, len(recorded) // 100):
        raise RunError(
            f"{run.path}: {differing} of {len(recorded)} predictions of step {step} differ from those that "
            "training recorded; the weights or the tokens are not the ones it used"
        )
