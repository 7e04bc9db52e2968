"""Owns the evaluation of a finished run: what was learned, what was forgotten; draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from avcil.cache import TokenCache
from avcil.errors import RunError
from avcil.train import metrics
from avcil.train.protocol import clip_set
from avcil.train.run import plan_run
from avcil.train.run_folder import RunFolder
from avcil.train.step_data import load_clips


@dataclass(frozen=True)
class Evaluation:
    """The numbers of a run; definitions in `avcil.train.metrics.DEFINITIONS`, all as fractions.

    Attributes:
        name: protocol name.
        method, modality, fidelity: what was trained.
        classes: class labels in learning order.
        step_sizes: classes per step.
        seed, epochs, select, memory: how it was trained; `select` says which epoch of a step was kept.
        cache: path of the tokens.
        test_clips: number of test clips of all classes.
        accuracy: A_t after every step.
        matrix: rows a[t][0..t].
        per_class: accuracy of every class after the last step.
    """

    name: str
    method: str
    modality: str
    fidelity: str
    classes: list[str]
    step_sizes: list[int]
    seed: int
    epochs: int
    select: str
    memory: int
    cache: str
    test_clips: int
    accuracy: list[float]
    matrix: list[list[float]]
    per_class: dict[str, float]
    mean_accuracy: float
    last_accuracy: float
    forgetting: list[float | None]
    average_forgetting: float | None
    backward_transfer: float | None


def evaluate_run(
    run: RunFolder,
    cache_path: Path | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Classify the test clips again with every step's network and compare with training's record.

    Args:
        run: a finished run.
        cache_path: its cache, when that is no longer where training found it.
        on_step: called with the number of steps evaluated and of all steps.

    Raises:
        RunError: the run is unfinished, its cache has changed, or the predictions differ from the record.
        CacheError: the cache is gone or damaged.
    """
    steps = len(run.facts.step_sizes)
    if run.steps_done < steps:
        raise RunError(
            f"{run.path}: {run.steps_done} of {steps} steps are finished; give the same avcil train command "
            "again to finish it"
        )
    path = cache_path or Path(run.facts.cache)
    if cache_path is None and not path.is_dir():
        raise RunError(f"the cache of {run.path} is no longer at {path}; say where it is with --cache")
    cache = TokenCache(path)
    if cache.fingerprint != run.facts.cache_fingerprint:
        raise RunError(
            f"{path} is not the cache that {run.path} was trained on, or it has changed since; "
            "give the right one with --cache, or train again"
        )
    # Where training ran does not matter: evaluate on what is here.
    anywhere = replace(run.config, training=replace(run.config.training, device="auto"))
    plan = plan_run(cache, anywhere)
    tasks, rows, accuracies = plan.protocol.tasks, [], []
    predicted: list[int] = []
    true: list[int] = []
    for step in range(steps):
        clips = clip_set(plan.clips.test, range(plan.protocol.seen(step)))
        test = load_clips(cache, clips, run.config.modality, plan.device)
        with torch.inference_mode():
            predicted = run.classifier(step, plan.device).columns(test.tokens).tolist()
        true = list(clips.columns)
        _compare(run, step, predicted)
        rows.append(metrics.task_accuracy(predicted, true, tasks[: step + 1]))
        accuracies.append(metrics.accuracy(predicted, true))
        on_step(step + 1, steps)
    single = [range(column, column + 1) for column in range(len(plan.protocol.classes))]
    return Evaluation(
        name=run.config.name,
        method=run.config.method,
        modality=run.config.modality,
        fidelity=run.config.fidelity,
        classes=list(plan.protocol.classes),
        step_sizes=list(plan.protocol.step_sizes),
        seed=run.config.training.seed,
        epochs=run.config.training.epochs,
        select=run.config.training.select,
        memory=plan.protocol.memory,
        cache=str(path),
        test_clips=len(true),
        accuracy=accuracies,
        matrix=rows,
        per_class=dict(
            zip(plan.protocol.classes, metrics.task_accuracy(predicted, true, single), strict=True)
        ),
        mean_accuracy=metrics.mean_accuracy(accuracies),
        last_accuracy=accuracies[-1],
        forgetting=metrics.forgetting(rows),
        average_forgetting=metrics.average_forgetting(rows),
        backward_transfer=metrics.backward_transfer(rows),
    )


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
