"""The measures of class-incremental learning as pure functions of predictions and accuracies.

Letters: a[t][i] accuracy after step t on the clips of step i's classes, prediction among all classes
seen; A[t] accuracy after step t on the clips of all classes seen. Both are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEFINITIONS = {
    "accuracy": "A_t: share of the clips of all classes seen after step t that are classified right, among "
    "all classes seen",
    "mean_accuracy": "mean of A_t over all steps",
    "last_accuracy": "A_t of the last step",
    "forgetting": "F_t: mean over earlier steps i of (best a[u,i] with i <= u < t, minus a[t,i]); "
    "may be negative",
    "average_forgetting": "mean of F_t over t >= 1",
    "backward_transfer": "mean over steps i before the last of a[last,i] - a[i,i]",
    "memory_bytes": "bytes kept after the last step beside the network: the tokens of the exemplars, as the "
    "cache holds them (of all training clips for a method that sees them all), and what the head keeps",
    "seconds_per_step": "wall time of a step, loading and testing included, mean over the steps",
    "per_class": "share of a class's clips that are classified right after the last step, among all classes",
    "per_class_learned": "the same right after the step that the class came with, among the classes seen",
    "confusion": "after the last step, how many clips of a class (row) were taken for each class (column)",
}


@dataclass(frozen=True)
class Confusion:
    """Clips of the class `true` that were taken for the class `taken_for`: `clips` out of its `of_clips`."""

    true: str
    taken_for: str
    clips: int
    of_clips: int


def accuracy(predicted: Sequence[int], true: Sequence[int]) -> float:
    """Share of predictions that are right, in [0, 1]."""
    if len(predicted) != len(true) or not true:
        raise ValueError(f"{len(predicted)} predictions for {len(true)} labels; need equal, non-zero counts")
    return sum(p == y for p, y in zip(predicted, true, strict=True)) / len(true)


def task_accuracy(predicted: Sequence[int], true: Sequence[int], tasks: Sequence[range]) -> list[float]:
    """Row a[t]: accuracy on the clips of each step's classes, prediction among all classes seen."""
    row = []
    for task in tasks:
        pairs = [(p, y) for p, y in zip(predicted, true, strict=True) if y in task]
        row.append(accuracy([p for p, _ in pairs], [y for _, y in pairs]))
    return row


def confusion_matrix(predicted: Sequence[int], true: Sequence[int], classes: int) -> list[list[int]]:
    """How many clips of each class (row) were classified as each class (column)."""
    counts = [[0] * classes for _ in range(classes)]
    for p, y in zip(predicted, true, strict=True):
        counts[y][p] += 1
    return counts


def step_confusion(confusion: Sequence[Sequence[int]], tasks: Sequence[range]) -> list[list[float]]:
    """Which share of the clips of each step's classes (row) was taken for a class of each step (column)."""
    rows = []
    for task in tasks:
        clips = sum(sum(confusion[y]) for y in task)
        rows.append([sum(confusion[y][p] for y in task for p in other) / clips for other in tasks])
    return rows


def most_confused(confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int) -> list[Confusion]:
    """The confusions that hit most clips, then the largest share of their class; at most `most`."""
    found = [
        Confusion(classes[y], classes[p], clips, sum(row))
        for y, row in enumerate(confusion)
        for p, clips in enumerate(row)
        if clips and p != y
    ]
    return sorted(found, key=lambda one: (-one.clips, one.of_clips))[:most]


def forgetting(matrix: Sequence[Sequence[float]]) -> list[float | None]:
    """F_t for every step (None at step 0): how far each old step fell from its best (Chaudhry et al., 2018).

    Args:
        matrix: lower-triangular rows a[t][0..t].
    """
    values: list[float | None] = [None]
    for t in range(1, len(matrix)):
        drops = [max(matrix[u][i] for u in range(i, t)) - matrix[t][i] for i in range(t)]
        values.append(sum(drops) / t)
    return values[: len(matrix)]


def average_forgetting(matrix: Sequence[Sequence[float]]) -> float | None:
    """Mean of F_t over t >= 1; None when there was only one step."""
    values = [value for value in forgetting(matrix) if value is not None]
    return sum(values) / len(values) if values else None


def mean_accuracy(accuracies: Sequence[float]) -> float:
    """Mean of A_t over all steps."""
    return sum(accuracies) / len(accuracies)


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float | None:
    """Mean over i before the last step of a[last][i] - a[i][i]; None when there was only one step."""
    last = len(matrix) - 1
    return sum(matrix[last][i] - matrix[i][i] for i in range(last)) / last if last else None
