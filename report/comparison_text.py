"""Owns comparisons as text for documents and programs: Markdown, CSV, LaTeX, JSON; computes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from avcil.report.comparison import METRICS, Comparison, ComparisonRow
from avcil.report.labels import in_latex, printable
from avcil.report.statistics import PairedDifference, Sample
from avcil.report.words import METHOD_TITLES
from avcil.train.record.metrics import DEFINITIONS

SHORT = {"mean_accuracy": "mean", "last_accuracy": "last", "average_forgetting": "forgetting"}


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


def columns(comparison: Comparison) -> list[str]:
    """The header of `cells`."""
    names = ["method", "modality", "n", *SHORT.values()]
    if comparison.baseline is None:
        return names
    than = METHOD_TITLES.get(comparison.baseline, comparison.baseline)
    return [*names, f"vs {than}"]


def legend(comparison: Comparison) -> str:
    """What the numbers of a table are."""
    said = "mean ± standard deviation (n - 1) over n runs, in percent"
    if comparison.baseline is None:
        return said
    than = METHOD_TITLES.get(comparison.baseline, comparison.baseline)
    return (
        f"{said}; vs {than}: mean accuracy minus that of {than} in the same modality, run by run of the same "
        "seeds, ± 95 % interval (Student's t)"
    )


def cells(comparison: Comparison, row: ComparisonRow) -> list[str]:
    """One row in words: numbers in percent, the difference of mean accuracies to the baseline."""
    name = METHOD_TITLES.get(row.method, row.method) + (f" ({row.variant})" if row.variant else "")
    values = [_sample(row.samples[metric]) for metric in METRICS]
    texts = [name, row.modality, str(len(row.seeds)), *values]
    if comparison.baseline is None:
        return texts
    return [*texts, difference(row.differences.get("mean_accuracy"))]


def difference(value: PairedDifference | None) -> str:
    """A difference in percentage points, signed unless it rounds to zero, with its interval."""
    if value is None:
        return ""
    points = round(100 * value.mean, 1)
    interval = "" if value.half_width is None else f"±{100 * value.half_width:.1f}"
    return (f"{points:+.1f}" if points else "0.0") + interval


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Tables with aligned columns."""
    parts = []
    for comparison in comparisons:
        rows = [[_markdown(cell) for cell in line] for line in _lines(comparison)]
        widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
        rule = [("-" * (width - 1) + ":") if k > 1 else "-" * width for k, width in enumerate(widths)]
        aligned = [
            [cell.rjust(width) if k > 1 else cell.ljust(width) for k, (cell, width) in enumerate(pairs)]
            for pairs in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        table = [f"| {' | '.join(row)} |" for row in (aligned[0], rule, *aligned[1:])]
        title, below = (_markdown(text(comparison)) for text in (heading, legend))
        parts.append("\n".join([f"**{title}**", "", *table, "", below]))
    return "\n\n".join(parts) + "\n"


def latex(comparisons: Sequence[Comparison]) -> str:
    r"""`table` environments with the rules of booktabs (`\usepackage{booktabs}`)."""
    parts = []
    for comparison in comparisons:
        lines = [" & ".join(map(in_latex, line)) + r" \\" for line in _lines(comparison)]
        spec = "ll" + "r" * (len(columns(comparison)) - 2)
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        caption = in_latex(f"{heading(comparison)}; {legend(comparison)}.")
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering",
                    rf"\caption{{{caption}}}",
                    rf"\begin{{tabular}}{{{spec}}}",
                    *body,
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def comma_separated(comparisons: Sequence[Comparison]) -> str:
    """One line per row with every number, as fractions."""
    numbers = [f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd")]
    numbers += [f"{metric}_{part}" for metric in METRICS for part in ("difference", "interval95")]
    where = ("protocol", "classes", "step_sizes", "cache_fingerprint")
    what = ("method", "modality", "fidelity", "variant", "runs")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*where, *what, *numbers, "baseline", "pairs"])
    for comparison in comparisons:
        sizes = "+".join(map(str, comparison.step_sizes))
        place = [comparison.protocol, comparison.classes, sizes, comparison.cache_fingerprint]
        for row in comparison.rows:
            samples = [row.samples[metric] for metric in METRICS]
            differences = [row.differences.get(metric) for metric in METRICS]
            values = [(None, None) if one is None else (one.mean, one.deviation) for one in samples]
            values += [(None, None) if one is None else (one.mean, one.half_width) for one in differences]
            writer.writerow(
                [*place, row.method, row.modality, row.fidelity, row.variant, len(row.seeds)]
                + [number for pair in values for number in pair]
                + [comparison.baseline, max((one.n for one in differences if one), default=None)]
            )
    return file.getvalue()


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Everything, as one JSON object with the definitions of the metrics; numbers are fractions."""
    definitions = {metric: DEFINITIONS[metric] for metric in METRICS}
    table = {"comparisons": [asdict(one) for one in comparisons], "definitions": definitions}
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "json": as_json,
}


def _lines(comparison: Comparison) -> list[list[str]]:
    return [columns(comparison), *(cells(comparison, row) for row in comparison.rows)]


def _sample(value: Sample | None) -> str:
    if value is None:
        return "-"
    spread = "" if value.deviation is None else f"±{100 * value.deviation:.1f}"
    return f"{100 * value.mean:.1f}{spread}"


def _markdown(text: str) -> str:
    escaped = "".join(f"\\{char}" if char in "\\`*_|<>[]" else char for char in text)
    return " ".join(escaped.split())
