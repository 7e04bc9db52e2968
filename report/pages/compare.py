"""The page that compares methods: curves, and bars with their spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from avcil.report.comparison import COSTS, METRICS, MODALITY_ORDER, Comparison, ComparisonRow
from avcil.report.comparison_tables import difference, heading, legend, row_title
from avcil.report.labels import shortened
from avcil.report.pages.charts import Axes, Line, Point, line_chart, point_chart
from avcil.report.pages.curves import percent_ticks, step_axes
from avcil.report.pages.page import Chart, render
from avcil.report.statistics import Sample
from avcil.report.words import MODALITY_WORDS, byte_size, in_mb, short_number, signed
from avcil.train.record.metrics import DEFINITIONS

COLOURS = 6  # of methods, before they come round again as dashes
LABEL_WIDTH = 96  # of a curve's label, which is cut to what fits
LABEL_LETTERS = 14
POINT_LETTERS = 24
SIZES = {3: "1 kB", 6: "1 MB", 9: "1 GB", 12: "1 TB"}
NOTHING, LEAST, MOST = 2.0, 2.3, 10.0  # log10 of bytes: where none at all stand, few, and 10 GB


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
        in_mb=in_mb,
        short_number=short_number,
        difference=_difference,
        definitions={metric: DEFINITIONS[metric] for metric in ("accuracy", *METRICS, *COSTS)},
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
        charts=[
            draw(modality, rows, styles)
            for draw in (_chart, _cost_chart)
            for modality, rows in by_modality.items()
            if rows
        ],
        columns=[
            *(metric.replace("_", " ") for metric in METRICS),
            "MB kept",
            "seconds a step",
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


def _cost_chart(modality: str, rows: Sequence[ComparisonRow], styles: Mapping[str, str]) -> Chart:
    """Mean accuracy against the bytes kept, a point a row."""
    points = [_cost_point(row, styles[row_title(row)]) for row in rows]
    heights = [point.y for point in points]
    decades = range(3, math.ceil(max(MOST, *(point.x for point in points))) + 1)
    axes = Axes(
        title=f"Mean accuracy against memory kept, {modality}",
        description="; ".join(point.note for point in points),
        y_ticks=percent_ticks(max(0.0, min(heights) - 0.03), min(1.0, max(heights) + 0.03)),
        x_ticks=[(NOTHING, "0"), *((power, text) for power, text in SIZES.items() if power in decades)],
        x_title="kept beside the network",
        x_range=(NOTHING, decades[-1]),
        dividers=decades,
        width=400,
        height=300,
    )
    note = "Mean accuracy in percent against the exemplars and statistics kept; up and to the left is better"
    return Chart(f"{modality.capitalize()}: what it costs", note, point_chart(axes, points))


def _cost_point(row: ComparisonRow, style: str) -> Point:
    accuracy, lost = row.samples["mean_accuracy"], row.samples["average_forgetting"]
    assert accuracy is not None
    kept, seconds = row.costs["memory_bytes"].mean, row.costs["seconds_per_step"].mean
    note = (
        f"{row_title(row)}: mean accuracy {signed(accuracy.mean)} %, {byte_size(kept)} kept, "
        f"{short_number(seconds)} s a step, forgetting {signed(None if lost is None else lost.mean)}"
    )
    x = max(math.log10(kept), LEAST) if kept else NOTHING
    return Point(shortened(row_title(row), POINT_LETTERS), x, accuracy.mean, style, note)
