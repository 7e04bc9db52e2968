"""The tables of a comparison: methods beside each other, every number for programs, and the demo's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from avcil.report.comparison import COSTS, METRICS, Comparison, ComparisonRow
from avcil.report.labels import printable
from avcil.report.statistics import PairedDifference, Sample
from avcil.report.table import Cell, Column, Table
from avcil.report.words import in_mb, percent, short_number
from avcil.train.record.metrics import DEFINITIONS
from avcil.train.record.results import Results

KEYS = (Column("method", "left"), Column("modality", "left"), Column("n"))
SHORT = {"mean_accuracy": "mean", "last_accuracy": "last", "average_forgetting": "forgetting"}


def comparison_table(comparison: Comparison) -> Table:
    """One row per method, modality and variant: `outcome_table` and `cost_table` side by side."""
    outcome, cost = outcome_table(comparison), cost_table(comparison)
    return replace(
        outcome,
        columns=[*outcome.columns, *cost.columns[len(KEYS) :]],
        rows=[[*one, *other[len(KEYS) :]] for one, other in zip(outcome.rows, cost.rows, strict=True)],
        note=f"{outcome.note}; {cost.note}",
    )


def outcome_table(comparison: Comparison) -> Table:
    """In percent, with the difference of mean accuracies; 80 characters wide."""
    names = [*SHORT.values()]
    rows = [[*_keys(row), *(_sample(row.samples[metric]) for metric in METRICS)] for row in comparison.rows]
    if comparison.baseline is not None:
        names.append(f"vs {comparison.baseline_title}")
        for cells, row in zip(rows, comparison.rows, strict=True):
            cells.append(difference(row.differences.get("mean_accuracy")))
    return Table(heading(comparison), [*KEYS, *map(Column, names)], rows, note=legend(comparison))


def cost_table(comparison: Comparison) -> Table:
    """What each way to train keeps and takes."""
    rows = [
        [*_keys(row), in_mb(row.costs["memory_bytes"].mean), short_number(row.costs["seconds_per_step"].mean)]
        for row in comparison.rows
    ]
    note = "MB kept: exemplars and what the head keeps, after the last step; s a step: wall time; means"
    return Table("", [*KEYS, Column("MB kept"), Column("s a step")], rows, note=note)


def _keys(row: ComparisonRow) -> list[Cell]:
    return [row_title(row), row.modality, len(row.seeds)]


def heading(comparison: Comparison) -> str:
    """Protocol, classes, steps, tokens and fidelity in one line."""
    sizes = comparison.step_sizes
    even = len(set(sizes)) == 1
    cut = f"{len(sizes)} x {sizes[0]}" if even else " + ".join(map(str, sizes))
    fidelities = " / ".join(sorted({row.fidelity for row in comparison.rows}))
    return (
        f"{printable(comparison.protocol)}: {comparison.classes} classes in steps of {cut}, "
        f"cache {comparison.cache_fingerprint[:8]}, fidelity {fidelities}"
    )


def legend(comparison: Comparison) -> str:
    """What the numbers of a table are."""
    numbers = "mean ± standard deviation (n - 1) over n runs, in percent"
    if comparison.baseline is None:
        return numbers
    than = comparison.baseline_title
    return (
        f"{numbers}; vs {than}: mean accuracy minus that of {than} in the same modality, run by run of the "
        "same seeds, ± 95 % interval (Student's t)"
    )


def row_title(row: ComparisonRow) -> str:
    """Method and variant as people call them."""
    return printable(row.method_title) + (f" ({row.variant})" if row.variant else "")


def difference(value: PairedDifference | None) -> str:
    """A difference in percentage points, signed unless it rounds to zero, with its interval."""
    if value is None:
        return ""
    points = round(100 * value.mean, 1)
    interval = "" if value.half_width is None else f"±{100 * value.half_width:.1f}"
    return (f"{points:+.1f}" if points else "0.0") + interval


def numbers_table(comparisons: Sequence[Comparison]) -> Table:
    """Every number of all rows, as fractions."""
    names = ["protocol", "classes", "step_sizes", "cache_fingerprint"]
    names += ["method", "modality", "fidelity", "variant", "runs"]
    names += [f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd")]
    names += [f"{cost}_{part}" for cost in COSTS for part in ("mean", "sd")]
    names += [f"{metric}_{part}" for metric in METRICS for part in ("difference", "interval95")]
    names += ["baseline", "pairs"]
    rows = [_numbers(comparison, row) for comparison in comparisons for row in comparison.rows]
    return Table("", list(map(Column, names)), rows)


def _numbers(comparison: Comparison, row: ComparisonRow) -> list[Cell]:
    samples = [*(row.samples[metric] for metric in METRICS), *(row.costs[cost] for cost in COSTS)]
    differences = [row.differences.get(metric) for metric in METRICS]
    pairs = [(None, None) if one is None else (one.mean, one.deviation) for one in samples]
    pairs += [(None, None) if one is None else (one.mean, one.half_width) for one in differences]
    sizes = "+".join(map(str, comparison.step_sizes))
    return [
        *(comparison.protocol, comparison.classes, sizes, comparison.cache_fingerprint),
        *(row.method, row.modality, row.fidelity, row.variant, len(row.seeds)),
        *(number for pair in pairs for number in pair),
        *(comparison.baseline, max((one.n for one in differences if one), default=None)),
    ]


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Everything, as one JSON object with the definitions of the metrics; numbers are fractions."""
    definitions = {name: DEFINITIONS[name] for name in (*METRICS, *COSTS)}
    content = {"comparisons": [asdict(one) for one in comparisons], "definitions": definitions}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "markdown": lambda found: "\n\n".join(comparison_table(one).markdown() for one in found) + "\n",
    "csv": lambda found: numbers_table(found).comma_separated(),
    "latex": lambda found: "\n\n".join(comparison_table(one).latex() for one in found) + "\n",
    "json": as_json,
}


def accuracy_table(results: Sequence[tuple[str, Sequence[Results]]]) -> Table:
    """One row per name: accuracy after every step, mean, forgetting; means over the runs of a row."""
    steps = max(len(result.accuracy) for _, runs in results for result in runs)
    fidelities = "/".join(sorted({run.fidelity for _, runs in results for run in runs}))
    rows = [
        [
            name,
            *(_mean([run.accuracy[step] for run in runs]) for step in range(steps)),
            _mean([run.mean_accuracy for run in runs]),
            _mean([run.average_forgetting for run in runs if run.average_forgetting is not None]),
        ]
        for name, runs in results
    ]
    names = [*(f"step {step}" for step in range(1, steps + 1)), "mean", "forgetting"]
    return Table(
        f"accuracy after each step, percent of the test clips of all classes seen ({fidelities})",
        [Column("", "left"), *map(Column, names)],
        rows,
    )


def _mean(values: Sequence[float]) -> str:
    return percent(sum(values) / len(values) if values else None)


def _sample(value: Sample | None) -> str:
    if value is None:
        return "-"
    spread = "" if value.deviation is None else f"±{100 * value.deviation:.1f}"
    return f"{100 * value.mean:.1f}{spread}"
