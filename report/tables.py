"""Owns the tables of a run: accuracy per step, the accuracy matrix, the comparison of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from avcil.train.metrics import DEFINITIONS
from avcil.train.results import Evaluation

SELECTION = {
    "best_val": "each step keeps its epoch with the best validation accuracy on all classes seen; that set "
    "holds clips of old classes beyond the memory",
    "last": "each step keeps its last epoch",
}
NARROW_STEPS = 10  # more columns with a decimal do not fit 80 characters
METHOD_TITLES = {  # in the order of the published tables
    "finetune": "fine-tuning",
    "lwf": "LwF",
    "icarl-nme": "iCaRL-NME",
    "icarl-fc": "iCaRL-FC",
    "ss-il": "SS-IL",
    "afc-nme": "AFC-NME",
    "afc-lsc": "AFC-LSC",
    "avcil": "AV-CIL",
    "upper-bound": "upper bound",
}


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal, a dash when there is none."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def whole_percent(fraction: float) -> str:
    """A fraction as whole percent."""
    return f"{100 * fraction:.0f}"


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


def headline(result: Evaluation) -> list[str]:
    """The run's numbers in words, each with its definition."""
    numbers = {
        "mean_accuracy": result.mean_accuracy,
        "last_accuracy": result.last_accuracy,
        "average_forgetting": result.average_forgetting,
        "backward_transfer": result.backward_transfer,
    }
    lines = [
        f"{name.replace('_', ' ')} {percent(value)}: {DEFINITIONS[name]}" for name, value in numbers.items()
    ]
    lines += [f"{name}: {DEFINITIONS[name]}" for name in ("accuracy", "forgetting")]
    return [*lines, SELECTION[result.select]]


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


def title(result: Evaluation) -> str:
    """Method and modality as people say them."""
    return f"{METHOD_TITLES.get(result.method, result.method)}, {result.modality}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _table(caption: str) -> Table:
    return Table(title=Text(caption), title_justify="left", title_style="bold", header_style="dim", box=None)
