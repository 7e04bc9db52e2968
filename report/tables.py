"""Owns the tables of a run: accuracy per step, the accuracy matrix, the comparison of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from avcil.train.evaluate import Evaluation
from avcil.train.metrics import DEFINITIONS

METHOD_TITLES = {"avcil": "AV-CIL", "finetune": "fine-tuning", "upper-bound": "upper bound"}


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal, a dash when there is none."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def steps_table(result: Evaluation) -> Table:
    """Classes, accuracy and forgetting after each step."""
    table = _table(f"{title(result)}; {result.name}, {result.fidelity}; percent of test clips")
    for name in ("step", "new classes", "seen", "accuracy", "forgetting"):
        table.add_column(name, justify="right")
    seen = 0
    for step, size in enumerate(result.step_sizes):
        seen += size
        table.add_row(
            str(step + 1),
            str(size),
            str(seen),
            percent(result.accuracy[step]),
            percent(result.forgetting[step]),
        )
    return table


def matrix_table(result: Evaluation) -> Table:
    """Rows a[t][i]: after step t, accuracy on the classes that came with step i."""
    table = _table("accuracy after step (row) on the classes of step (column)")
    table.add_column("", justify="right")
    for step in range(len(result.matrix)):
        table.add_column(str(step + 1), justify="right")
    for step, row in enumerate(result.matrix):
        blanks = [""] * (len(result.matrix) - len(row))
        table.add_row(str(step + 1), *map(percent, row), *blanks)
    return table


def headline(result: Evaluation) -> list[str]:
    """The run's numbers in words, each with its definition."""
    numbers = {
        "mean_accuracy": result.mean_accuracy,
        "last_accuracy": result.last_accuracy,
        "average_forgetting": result.average_forgetting,
        "backward_transfer": result.backward_transfer,
    }
    return [
        f"{name.replace('_', ' ')} {percent(value)}: {DEFINITIONS[name]}" for name, value in numbers.items()
    ]


def comparison_table(results: Sequence[tuple[str, Sequence[Evaluation]]]) -> Table:
    """One row per name: accuracy after every step, mean, last, forgetting; means over the runs of a row."""
    steps = max(len(result.accuracy) for _, runs in results for result in runs)
    table = _table("accuracy after each step, percent of the test clips of all classes seen")
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
            percent(_mean([run.average_forgetting or 0.0 for run in runs])),
        )
    return table


def title(result: Evaluation) -> str:
    """Method and modality as people say them."""
    return f"{METHOD_TITLES.get(result.method, result.method)}, {result.modality}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _table(caption: str) -> Table:
    return Table(title=Text(caption), title_justify="left", title_style="bold", header_style="dim", box=None)
