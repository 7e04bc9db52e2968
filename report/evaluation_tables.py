"""The tables of one run: accuracy after each step, the accuracy matrix, classes, confusions, every number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from avcil.report.labels import shortened
from avcil.report.table import Cell, Column, Table
from avcil.report.words import SELECTION, SPLIT_WORDS, byte_size, chances, percent, short_number, title
from avcil.train.record.metrics import DEFINITIONS, Confusion, most_confused
from avcil.train.record.results import MOST_CONFUSED, Results, to_json

HEADLINE = ("mean_accuracy", "last_accuracy", "average_forgetting", "backward_transfer")
NARROW_STEPS = 10  # more columns with a decimal do not fit 80 characters
FEW_CLASSES = 12  # are all shown
ENDS = 5  # of more, the best and the worst
NAME_WIDTH = 26


def tables(result: Results) -> list[Table]:
    """Everything that fits a terminal, in order."""
    confused = most_confused(result.confusion, result.classes, MOST_CONFUSED)
    return [
        steps_table(result),
        matrix_table(result),
        class_table(result),
        *([confusion_table(confused)] if confused else []),
        headline_table(result),
    ]


def steps_table(result: Results) -> Table:
    """Classes, accuracy and forgetting after each step."""
    names = ("step", "new classes", "seen", "guessing", "accuracy", "forgetting")
    rows: list[list[Cell]] = []
    seen = 0
    for step, (size, chance) in enumerate(zip(result.step_sizes, chances(result), strict=True)):
        seen += size
        shares = map(percent, (chance, result.accuracy[step], result.forgetting[step]))
        rows.append([step + 1, size, seen, *shares])
    return Table(
        f"{title(result)}; {result.name}, {result.fidelity}; percent of {SPLIT_WORDS[result.split]}",
        list(map(Column, names)),
        rows,
    )


def matrix_table(result: Results) -> Table:
    """Rows a[t][i]: after step t, accuracy on the classes that came with step i; whole percent if many."""
    steps = len(result.matrix)
    shown = [
        [percent(value) if steps <= NARROW_STEPS else f"{100 * value:.0f}" for value in row]
        for row in result.matrix
    ]
    return Table(
        "accuracy after step (row) on the classes of step (column)",
        [Column(""), *_numbered(steps)],
        [[step, *row, *[None] * (steps - step)] for step, row in enumerate(shown, start=1)],
    )


def class_table(result: Results) -> Table:
    """Accuracy of the classes after the last step, worst first; of many, only both ends."""
    ranked = sorted(result.per_class, key=lambda name: (result.per_class[name], name))
    many = len(ranked) > FEW_CLASSES
    step_of = dict(zip(result.classes, _steps_of_classes(result), strict=True))
    rows: list[list[Cell]] = [
        [
            shortened(name, NAME_WIDTH),
            step_of[name],
            percent(result.per_class_learned[name]),
            percent(result.per_class[name]),
        ]
        for name in ranked
    ]
    return Table(
        f"the {ENDS} worst and {ENDS} best of {len(ranked)} classes (all: --json, --csv, --html)"
        if many
        else "every class, the worst first",
        [Column("class", "left"), *map(Column, ("step", "when learned", "at the end"))],
        [*rows[:ENDS], ["...", None, None, None], *rows[-ENDS:]] if many else rows,
    )


def confusion_table(confused: Sequence[Confusion]) -> Table:
    """The pairs of classes that were confused most."""
    return Table(
        "most confused at the end",
        [Column("class", "left"), Column("taken for", "left"), Column("clips")],
        [
            [
                shortened(one.true, NAME_WIDTH),
                shortened(one.taken_for, NAME_WIDTH),
                f"{one.clips} of {one.of_clips}",
            ]
            for one in confused
        ],
    )


def headline_table(result: Results) -> Table:
    """The run's numbers, each with its definition."""
    rows = [
        *((_spoken(name), percent(getattr(result, name)), DEFINITIONS[name]) for name in HEADLINE),
        *((name, "", DEFINITIONS[name]) for name in ("accuracy", "forgetting")),
        ("memory kept", byte_size(result.memory_bytes), DEFINITIONS["memory_bytes"]),
        ("seconds per step", short_number(result.seconds_per_step), DEFINITIONS["seconds_per_step"]),
        *([("epoch kept", "", SELECTION[result.select])] if result.epochs else []),
    ]
    return Table("", [Column("", "left"), Column("", bold=True), Column("", "prose")], rows)


def numbers_table(result: Results) -> Table:
    """One number a row, accuracies as fractions: `measure,step,of,taken_for,value`.

    `step` counts from 1. `of` is the step whose classes an `accuracy_of_step` is about, or the class; for
    `confusion`, in clips, the class, and `taken_for` what it was taken for.
    """
    last = len(result.step_sizes)
    single = (*HEADLINE, "memory_bytes", "seconds_per_step")
    rows: list[Sequence[Cell]] = [[name, None, None, None, getattr(result, name)] for name in single]
    for step, (accuracy, forgetting) in enumerate(zip(result.accuracy, result.forgetting, strict=True), 1):
        rows.append(["accuracy", step, None, None, accuracy])
        rows.append(["forgetting", step, None, None, forgetting])
    for step, values in enumerate(result.matrix, 1):
        rows += (["accuracy_of_step", step, of, None, value] for of, value in enumerate(values, 1))
    for name, step in zip(result.classes, _steps_of_classes(result), strict=True):
        rows.append(["per_class_learned", step, name, None, result.per_class_learned[name]])
        rows.append(["per_class", last, name, None, result.per_class[name]])
    for name, counts in zip(result.classes, result.confusion, strict=True):
        pairs = zip(result.classes, counts, strict=True)
        rows += (["confusion", last, name, other, clips] for other, clips in pairs if clips)
    return Table("", list(map(Column, ("measure", "step", "of", "taken_for", "value"))), rows)


def paper_table(result: Results) -> Table:
    """The accuracy matrix, A_t and F_t, for a document."""
    steps = len(result.matrix)
    outcome = zip(result.matrix, result.accuracy, result.forgetting, strict=True)
    headline = (f"{_spoken(one)} {percent(getattr(result, one))} ({DEFINITIONS[one]})" for one in HEADLINE)
    return Table(
        f"{title(result)}, {result.name}, {result.fidelity}: accuracy on the classes of each step, in "
        f"percent of {result.clips} {SPLIT_WORDS[result.split]}",
        [
            Column("after step"),
            *_numbered(steps),
            Column("A_t", latex="$A_t$"),
            Column("F_t", latex="$F_t$"),
        ],
        [
            [step, *map(percent, row), *[None] * (steps - step), percent(accuracy), percent(forgetting)]
            for step, (row, accuracy, forgetting) in enumerate(outcome, start=1)
        ],
        note="; ".join(headline),
    )


FORMATS: dict[str, Callable[[Results], str]] = {
    "json": lambda result: to_json(result) + "\n",
    "csv": lambda result: numbers_table(result).comma_separated(),
    "latex": lambda result: paper_table(result).latex() + "\n",
}


def _numbered(steps: int) -> list[Column]:
    return [Column(str(step)) for step in range(1, steps + 1)]


def _steps_of_classes(result: Results) -> list[int]:
    """The step of every class, from 1, in learning order."""
    return [step for step, size in enumerate(result.step_sizes, 1) for _ in range(size)]


def _spoken(metric: str) -> str:
    return metric.replace("_", " ")
