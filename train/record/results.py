"""The numbers of a run, computed from the predictions that training recorded, and `results.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from avcil.files import write_text
from avcil.train.config import RunConfig
from avcil.train.protocol import Protocol
from avcil.train.record import metrics
from avcil.train.record.journal import read_state
from avcil.train.record.records import OldClips
from avcil.train.record.run_folder import RunFolder, find_runs

RESULTS = "results.json"
MOST_CONFUSED = 10
Split = Literal["test", "val"]


@dataclass(frozen=True)
class Evaluation:
    """The numbers of a run; definitions in `avcil.train.record.metrics.DEFINITIONS`, all as fractions.

    Attributes:
        name: protocol name.
        method, method_title, modality, fidelity: what was trained.
        classes: class labels in learning order.
        step_sizes: classes per step.
        seed, epochs, select, memory, old_clips: how it was trained; `select` says which epoch of a step was
            kept, `old_clips` which training clips of earlier classes a step was given.
        split: whose clips were classified, "test" or "val".
        clips: their number, of all classes.
        accuracy: A_t after every step.
        matrix: rows a[t][0..t].
        per_class: accuracy of every class after the last step.
        per_class_learned: accuracy of every class after the step it came with.
        confusion: after the last step, clips of each class (row) that were taken for each class (column).
    """

    name: str
    method: str
    method_title: str
    modality: str
    fidelity: str
    classes: list[str]
    step_sizes: list[int]
    seed: int
    epochs: int
    select: str
    memory: int
    old_clips: OldClips
    split: Split
    clips: int
    accuracy: list[float]
    matrix: list[list[float]]
    per_class: dict[str, float]
    per_class_learned: dict[str, float]
    confusion: list[list[int]]
    mean_accuracy: float
    last_accuracy: float
    forgetting: list[float | None]
    average_forgetting: float | None
    backward_transfer: float | None


@dataclass(frozen=True)
class StepPredictions:
    """How the clips of all classes seen after a step were classified: columns, in set order."""

    predicted: Sequence[int]
    true: Sequence[int]


def measure(run: RunFolder, by_step: Sequence[StepPredictions], split: Split = "test") -> Evaluation:
    """The numbers of a finished run, from one of them per step; every class needs clips."""
    config, facts = run.config, run.facts
    tasks = Protocol(facts.classes, facts.step_sizes, facts.memory).tasks
    accuracies = [metrics.accuracy(one.predicted, one.true) for one in by_step]
    matrix = [
        metrics.task_accuracy(one.predicted, one.true, tasks[: step + 1]) for step, one in enumerate(by_step)
    ]
    last = by_step[-1]
    of_class = _of_classes(last, range(len(facts.classes)))
    learned = [value for one, task in zip(by_step, tasks, strict=True) for value in _of_classes(one, task)]
    return Evaluation(
        name=config.name,
        method=config.method.name,
        method_title=facts.method_title,
        modality=config.modality,
        fidelity=config.fidelity,
        classes=list(facts.classes),
        step_sizes=list(facts.step_sizes),
        seed=config.training.seed,
        epochs=config.training.epochs,
        select=config.training.select,
        memory=facts.memory,
        old_clips=facts.old_clips,
        split=split,
        clips=len(last.true),
        accuracy=accuracies,
        matrix=matrix,
        per_class=dict(zip(facts.classes, of_class, strict=True)),
        per_class_learned=dict(zip(facts.classes, learned, strict=True)),
        confusion=metrics.confusion_matrix(last.predicted, last.true, len(facts.classes)),
        mean_accuracy=metrics.mean_accuracy(accuracies),
        last_accuracy=accuracies[-1],
        forgetting=metrics.forgetting(matrix),
        average_forgetting=metrics.average_forgetting(matrix),
        backward_transfer=metrics.backward_transfer(matrix),
    )


def _of_classes(one: StepPredictions, columns: range) -> list[float]:
    single = [range(column, column + 1) for column in columns]
    return metrics.task_accuracy(one.predicted, one.true, single)


def recorded_results(run: RunFolder) -> Evaluation:
    """The numbers of a finished run from what training recorded; needs no cache.

    Raises:
        RunError: the run is unfinished or a record is damaged.
    """
    run.require_finished()
    records = map(run.record, range(run.steps_done))
    return measure(run, [StepPredictions(record.predicted, record.true) for record in records])


def write_results(run: RunFolder) -> None:
    """Write `results.json` of a finished run, unless it is there: for people and other programs alone.

    Raises:
        RunError: as `recorded_results`.
    """
    path, text = run.path / RESULTS, to_json(recorded_results(run))
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def to_json(result: Evaluation) -> str:
    """The numbers with their definitions, as one JSON object with a line for every name."""
    confused = metrics.most_confused(result.confusion, result.classes, MOST_CONFUSED)
    table: dict[str, Any] = {
        **asdict(result),
        "most_confused": [asdict(one) for one in confused],
        "definitions": metrics.DEFINITIONS,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


@dataclass(frozen=True)
class FinishedRun:
    """A run with its numbers.

    Attributes:
        path: its folder.
        config: how it was trained.
        cache_fingerprint: of the tokens it was trained on.
        method_defaults: settings that its method has where none are given.
        result: its numbers, from its records.
    """

    path: Path
    config: RunConfig
    cache_fingerprint: str
    method_defaults: Mapping[str, Any]
    result: Evaluation


@dataclass(frozen=True)
class FoundRuns:
    """The runs of some folders; `unfinished` says for each that is not how far it is."""

    finished: list[FinishedRun]
    unfinished: list[str]


def read_runs(paths: Iterable[Path]) -> FoundRuns:
    """The numbers of runs and of all runs in folders of runs; no cache is needed.

    Raises:
        RunError: a path is no run and holds none, or a run is damaged.
    """
    finished, unfinished = [], []
    for path in find_runs(paths):
        run = RunFolder.open(path)
        steps = len(run.facts.step_sizes)
        if run.steps_done == steps:
            fingerprint = run.facts.cache_fingerprint
            defaults = run.facts.method_defaults
            finished.append(FinishedRun(path, run.config, fingerprint, defaults, recorded_results(run)))
            continue
        state = read_state(path)
        within = f", epoch {state.epochs_done} of {state.epochs}" if state and state.epochs_done else ""
        unfinished.append(f"{path}: {run.steps_done} of {steps} steps are finished{within}")
    return FoundRuns(finished, unfinished)
