"""The numbers of a run, computed from what its steps predicted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from avcil.errors import ConfigError
from avcil.train.config import RunConfig
from avcil.train.protocol import Protocol
from avcil.train.record import metrics
from avcil.train.record.records import OldClips, RunFacts, StepRecord

if TYPE_CHECKING:
    import pandas

MOST_CONFUSED = 10
Split = Literal["test", "val"]


@dataclass(frozen=True, repr=False)
class Results:
    """The numbers of a run; definitions in `avcil.train.record.metrics.DEFINITIONS`, all as fractions.

    Attributes:
        name: protocol name.
        method, method_title, modality, fidelity: what was trained.
        classes: class labels in learning order.
        step_sizes: classes per step.
        seed, epochs, select, memory, old_clips: how it was trained; `epochs` of a step is 0 where no step
            trained a network, `select` says which one of a step was kept, `old_clips` which training clips of
            earlier classes a step was given.
        split: whose clips were classified, "test" or "val".
        clips: their number, of all classes.
        accuracy: A_t after every step.
        matrix: rows a[t][0..t].
        per_class: accuracy of every class after the last step.
        per_class_learned: accuracy of every class after the step it came with.
        confusion: after the last step, clips of each class (row) that were taken for each class (column).
        memory_bytes: kept after the last step, tokens of exemplars and what the head keeps.
        seconds_per_step: wall time, mean over the steps; another one when the same run is repeated.
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
    memory_bytes: int
    seconds_per_step: float = field(compare=False)

    @property
    def summary(self) -> str:
        """Mean and last accuracy and average forgetting in a line, in per cent."""
        lost = "" if self.average_forgetting is None else f", forgetting {100 * self.average_forgetting:.1f}"
        return f"mean accuracy {100 * self.mean_accuracy:.1f} %, last {100 * self.last_accuracy:.1f} %{lost}"

    def __repr__(self) -> str:
        clips = f"{self.clips} {self.split} clips of {len(self.classes)} classes"
        return f"<Results of {self.method_title}, {self.modality}: {self.summary} ({clips})>"

    def to_pandas(self) -> pandas.DataFrame:
        """A row for every step (from 1): accuracy, forgetting, and accuracy on the classes of each step.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from error
        table = pandas.DataFrame({"accuracy": self.accuracy, "forgetting": self.forgetting})
        for step in range(len(self.matrix)):
            of_step = [row[step] if step < len(row) else None for row in self.matrix]
            table[f"accuracy_of_step_{step + 1}"] = pandas.array(of_step, dtype="Float64")
        table.index = pandas.RangeIndex(1, len(self.matrix) + 1, name="step")
        return table


@dataclass(frozen=True)
class StepPredictions:
    """How the clips of all classes seen after a step were classified: columns, in set order."""

    predicted: Sequence[int]
    true: Sequence[int]


def measure(
    config: RunConfig,
    facts: RunFacts,
    records: Sequence[StepRecord],
    by_step: Sequence[StepPredictions],
    split: Split = "test",
) -> Results:
    """The numbers of a finished run.

    Args:
        config: how it was trained.
        facts: what it was made from.
        records: what training recorded of every step.
        by_step: how clips were classified after every step; every class needs some.
        split: whose clips these are.
    """
    tasks = Protocol(facts.classes, facts.step_sizes, facts.memory).tasks
    accuracies = [metrics.accuracy(one.predicted, one.true) for one in by_step]
    matrix = [
        metrics.task_accuracy(one.predicted, one.true, tasks[: step + 1]) for step, one in enumerate(by_step)
    ]
    last = by_step[-1]
    of_class = _of_classes(last, range(len(facts.classes)))
    learned = [value for one, task in zip(by_step, tasks, strict=True) for value in _of_classes(one, task)]
    return Results(
        name=config.name,
        method=config.method.name,
        method_title=facts.method_title,
        modality=config.modality,
        fidelity=config.fidelity,
        classes=list(facts.classes),
        step_sizes=list(facts.step_sizes),
        seed=config.training.seed,
        epochs=max(len(record.epochs) for record in records),
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
        memory_bytes=records[-1].exemplar_bytes + records[-1].head_bytes,
        seconds_per_step=sum(record.seconds for record in records) / len(records),
    )


def _of_classes(one: StepPredictions, columns: range) -> list[float]:
    single = [range(column, column + 1) for column in columns]
    return metrics.task_accuracy(one.predicted, one.true, single)


def to_json(result: Results, *, timed: bool = True) -> str:
    """The numbers with their definitions, as one JSON object with a line for every name.

    Not `timed`, it has no seconds: the same run, repeated, has the same text.
    """
    confused = metrics.most_confused(result.confusion, result.classes, MOST_CONFUSED)
    table: dict[str, Any] = {
        **asdict(result),
        "most_confused": [asdict(one) for one in confused],
        "definitions": dict(metrics.DEFINITIONS),
    }
    if not timed:
        del table["seconds_per_step"], table["definitions"]["seconds_per_step"]
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
