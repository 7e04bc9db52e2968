"""Owns the tables of a run: accuracy per step, the accuracy matrix, the comparison of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from avcil.report.labels import shortened
from avcil.report.words import SELECTION, SPLIT_WORDS, chances, percent, title
from avcil.train.record.metrics import DEFINITIONS, Confusion
from avcil.train.record.results import Evaluation

NARROW_STEPS = 10  # more columns with a decimal do not fit 80 characters
FEW_CLASSES = 12  # are all shown
ENDS = 5  # of more, the best and the worst
NAME_WIDTH = 26


def whole_percent(fraction: float) -> str:
    """A fraction as whole percent."""
    return f"{100 * fraction:.0f}"


def steps_table(result: Evaluation) -> Table:
    """Classes, accuracy and forgetting after each step."""
    table = _table(
        f"{title(result)}; {result.name}, {result.fidelity}; percent of {SPLIT_WORDS[result.split]}"
    )
    for name in ("step", "new classes", "seen", "guessing", "accuracy", "forgetting"):
        table.add_column(name, justify="right")
    seen = 0
    for step, (size, chance) in enumerate(zip(result.step_sizes, chances(result), strict=True)):
        seen += size
        table.add_row(
            str(step + 1),
            str(size),
            str(seen),
            percent(chance),
            percent(result.accuracy[step]),
            percent(result.forgetting[step]),
        )
    return table


def matrix_table(result: Evaluation) -> Table:
    """Rows a[t][i]: after step t, accuracy on the classes that came with step i; whole percent if many."""
    show = percent if len(result.matrix) <= NARROW_STEPS else whole_percent
    table = _table("accuracy after step (row) on the classes of step (column)")
    table.add_column("", justify="right")
    for step in range(len(result.matrix)):
        table.add_column(str(step + 1), justify="right")
    for step, row in enumerate(result.matrix):
        blanks = [""] * (len(result.matrix) - len(row))
        table.add_row(str(step + 1), *map(show, row), *blanks)
    return table


def class_table(result: Evaluation) -> Table:
    """Accuracy of the classes after the last step, worst first; of many, only both ends."""
    ranked = sorted(result.per_class, key=lambda name: (result.per_class[name], name))
    many = len(ranked) > FEW_CLASSES
    table = _table(
        f"the {ENDS} worst and {ENDS} best of {len(ranked)} classes (all: --json, --csv, --html)"
        if many
        else "every class, the worst first"
    )
    table.add_column("class")
    for name in ("step", "when learned", "at the end"):
        table.add_column(name, justify="right")
    steps = [step for step, size in enumerate(result.step_sizes) for _ in range(size)]
    step_of = dict(zip(result.classes, steps, strict=True))

    def add(names: Sequence[str]) -> None:
        for name in names:
            table.add_row(
                Text(shortened(name, NAME_WIDTH)),
                str(step_of[name] + 1),
                percent(result.per_class_learned[name]),
                percent(result.per_class[name]),
            )

    add(ranked[:ENDS] if many else ranked)
    if many:
        table.add_row("...")
        add(ranked[-ENDS:])
    return table


def confusion_table(confused: Sequence[Confusion]) -> Table:
    """The pairs of classes that were confused most."""
    table = _table("most confused at the end")
    table.add_column("class")
    table.add_column("taken for")
    table.add_column("clips", justify="right")
    for one in confused:
        table.add_row(
            Text(shortened(one.true, NAME_WIDTH)),
            Text(shortened(one.taken_for, NAME_WIDTH)),
            f"{one.clips} of {one.of_clips}",
        )
    return table


def paragraph(text: str) -> Table:
    """Prose that is wrapped where it is shown."""
    table = Table.grid(padding=(0, 1))
    table.add_column(ratio=1)
    table.add_row(Text(text))
    return table


def headline_table(result: Evaluation) -> Table:
    """The run's numbers, each with its definition."""
    numbers: dict[str, float | None] = {
        "mean_accuracy": result.mean_accuracy,
        "last_accuracy": result.last_accuracy,
        "average_forgetting": result.average_forgetting,
        "backward_transfer": result.backward_transfer,
    }
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="bold")
    table.add_column(ratio=1)
    for name, value in numbers.items():
        table.add_row(name.replace("_", " "), percent(value), Text(DEFINITIONS[name]))
    for name in ("accuracy", "forgetting"):
        table.add_row(name, "", Text(DEFINITIONS[name]))
    table.add_row("epoch kept", "", Text(SELECTION[result.select]))
    return table


def comparison_table(results: Sequence[tuple[str, Sequence[Evaluation]]]) -> Table:
    """One row per name: accuracy after every step, mean, forgetting; means over the runs of a row."""
    steps = max(len(result.accuracy) for _, runs in results for result in runs)
    fidelities = "/".join(sorted({run.fidelity for _, runs in results for run in runs}))
    table = _table(f"accuracy after each step, percent of the test clips of all classes seen ({fidelities})")
    table.add_column("")
    for step in range(steps):
        table.add_column(f"step {step + 1}", justify="right")
    for name in ("mean", "forgetting"):
        table.add_column(name, justify="right")
    for name, runs in results:
        table.add_row(
            Text(name),
            *(percent(_mean([run.accuracy[step] for run in runs])) for step in range(steps)),
            percent(_mean([run.mean_accuracy for run in runs])),
            percent(_mean([run.average_forgetting for run in runs if run.average_forgetting is not None])),
        )
    return table


def plain_table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int
) -> Table:
    """Ready cells under a caption; the first `text_columns` columns are words, the others numbers."""
    table = _table(caption)
    for k, name in enumerate(header):
        table.add_column(Text(name), justify="left" if k < text_columns else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _table(caption: str) -> Table:
    return Table(title=Text(caption), title_justify="left", title_style="bold", header_style="dim", box=None)
