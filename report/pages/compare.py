"""The page that compares methods: curves, and bars with their spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from avcil.report.comparison import METRICS, MODALITY_ORDER, Comparison, ComparisonRow
from avcil.report.comparison_tables import difference, heading, legend, row_title
from avcil.report.labels import shortened
from avcil.report.pages.charts import Line, line_chart
from avcil.report.pages.curves import percent_ticks, step_axes
from avcil.report.pages.page import Chart, render
from avcil.report.statistics import Sample
from avcil.report.words import MODALITY_WORDS, signed
from avcil.train.record.metrics import DEFINITIONS

COLOURS = 6  # of methods, before they come round again as dashes
LABEL_WIDTH = 96  # of a curve's label, which is cut to what fits
LABEL_LETTERS = 14


@dataclass(frozen=True)
class Cell:
    """A number of a row.

    Attributes:
        text, spread: in percent; `spread` is "" for a single run.
        bar: the mean, and
        low, high: the mean minus and plus a deviation, cut to [0, 1] as a bar can show them.
    """

    text: str
    spread: str
    bar: float
    low: float
    high: float


@dataclass(frozen=True)
class Section:
    """What may be compared with each other; `styles` are the colours of the rows' curves by their titles."""

    comparison: Comparison
    intro: str
    charts: Sequence[Chart]
    columns: Sequence[str]
    styles: Mapping[str, str]


def compare_page(comparisons: Sequence[Comparison]) -> str:
    """One page for all tables of a comparison."""
    return render(
        "compare.html",
        sections=[_section(one) for one in comparisons],
        metrics=METRICS,
        heading=heading,
        legend=legend,
        row_title=row_title,
        cell=_cell,
        difference=_difference,
        definitions={metric: DEFINITIONS[metric] for metric in ("accuracy", *METRICS)},
    )


def _section(comparison: Comparison) -> Section:
    titles = list(dict.fromkeys(map(row_title, comparison.rows)))
    styles = {title: f"c{k % COLOURS}{' dashed' if k >= COLOURS else ''}" for k, title in enumerate(titles)}
    by_modality = {one: [row for row in comparison.rows if row.modality == one] for one in MODALITY_ORDER}
    return Section(
        comparison=comparison,
        intro=f"Every row learned the same {comparison.classes} classes in the same "
        f"{len(comparison.step_sizes)} steps from the same tokens. At the end, guessing would be right for "
        f"{signed(1 / comparison.classes)} %.",
        charts=[_chart(modality, rows, styles) for modality, rows in by_modality.items() if rows],
        columns=[
            *(metric.replace("_", " ") for metric in METRICS),
            *([] if comparison.baseline is None else [f"vs {comparison.baseline_title}"]),
        ],
        styles=styles,
    )


def _cell(value: Sample | None) -> Cell:
    if value is None:
        return Cell(signed(None), "", 0.0, 0.0, 0.0)
    spread = value.deviation or 0.0
    cut = [min(max(x, 0.0), 1.0) for x in (value.mean, value.mean - spread, value.mean + spread)]
    return Cell(signed(value.mean), "" if value.deviation is None else f"± {signed(value.deviation)}", *cut)


def _difference(row: ComparisonRow) -> str:
    text = difference(row.differences.get("mean_accuracy"))
    return text.replace("-", "\N{MINUS SIGN}").replace("±", " ± ")


def _chart(modality: str, rows: Sequence[ComparisonRow], styles: Mapping[str, str]) -> Chart:
    lines = [
        Line(
            shortened(row_title(row), LABEL_LETTERS),
            [(step, one.mean) for step, one in enumerate(row.accuracy, start=1)],
            f"{styles[row_title(row)]} dots",
            spread=[one.deviation for one in row.accuracy],
        )
        for row in rows
    ]
    ends = "; ".join(f"{row_title(row)} ends at {signed(row.accuracy[-1].mean)} %" for row in rows)
    axes = step_axes(
        f"Accuracy after each step, {modality}", ends, len(rows[0].accuracy), percent_ticks(0.0, 1.0)
    )
    how = MODALITY_WORDS[modality].capitalize()
    note = f"{how}: test clips of all classes seen so far that are named right, in percent"
    drawn = line_chart(replace(axes, label_width=LABEL_WIDTH, width=400, height=260), lines)
    return Chart(modality.capitalize(), note, drawn)
