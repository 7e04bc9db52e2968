"""The curves of a run's page: accuracy, forgetting, losses, validation accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from avcil.report.pages.charts import Axes, Line, line_chart, thinned, ticks
from avcil.report.pages.page import Chart
from avcil.report.words import SPLIT_WORDS, TERM_WORDS, chances, percent, signed, whole
from avcil.train.record.records import StepRecord
from avcil.train.record.results import Results

ROOMY_STEPS, MOST_STEPS = 6, 12  # with room for a decimal, and for a number, at every point
SMALL_WIDTH, SMALL_HEIGHT = 300, 180  # of the many pictures of training
COLOURS = 6  # of terms, before they come round again


def outcome_charts(result: Results) -> list[Chart]:
    """Accuracy after every step beside guessing, and forgetting if there are earlier steps."""
    return [_accuracy(result), *_forgetting(result)]


def _accuracy(result: Results) -> Chart:
    points, guesses = list(enumerate(result.accuracy, 1)), list(enumerate(chances(result), 1))
    style = f"faint thin {'dashed' if len(points) > 1 else 'dots'}"  # a line of one point is none
    lines = [Line("", points, "c0 dots", values=_values(points)), Line("guessing", guesses, style)]
    description = ", ".join(f"step {step}: {percent(value)} %" for step, value in points)
    axes = step_axes("Accuracy after each step", description, len(points), percent_ticks(0.0, 1.0))
    clips = SPLIT_WORDS[result.split].capitalize()
    return Chart(
        "Accuracy",
        f"{clips} of all classes seen so far that are named right, in percent",
        line_chart(replace(axes, label_width=58), lines),
    )


def _forgetting(result: Results) -> list[Chart]:
    points = [(step, value) for step, value in enumerate(result.forgetting, 1) if value is not None]
    if not points:
        return []
    steps = len(result.accuracy)
    description = ", ".join(f"step {step}: {percent(value)} points" for step, value in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    rules = percent_ticks(min(low, 0.0), max(high * 1.12, 0.1))
    drawn = line_chart(
        step_axes("Forgetting after each step", description, steps, rules),
        [Line("", points, "c1 dots", values=_values(points, steps))],
    )
    note = "How far the classes of earlier steps are below their best, in percentage points"
    return [Chart("Forgetting", note, drawn)]


def training_charts(records: Sequence[StepRecord]) -> list[Chart]:
    """One chart per loss term over the epochs of all steps, then validation accuracy with the kept epochs.

    Empty for a method that fits nothing.
    """
    starts = [0, *accumulate(len(record.epochs) for record in records)]
    epochs = [(float(k), epoch) for k, epoch in enumerate((e for r in records for e in r.epochs), start=1)]
    names = list(dict.fromkeys(name for _, epoch in epochs for name in epoch.terms))
    if not epochs:
        return []
    losses = [(k, epoch.loss) for k, epoch in epochs]
    charts = [_loss_chart("Total loss", "Their sum" if len(names) > 1 else "", losses, starts, "c6")]
    if len(names) > 1:
        for number, name in enumerate(names):
            points = [(k, epoch.terms[name]) for k, epoch in epochs if name in epoch.terms]
            title = name.replace("_", " ").capitalize()
            style = f"c{number % COLOURS}"
            charts.append(_loss_chart(title, TERM_WORDS.get(name, ""), points, starts, style))
    validated = [(k, epoch.val_accuracy) for k, epoch in epochs if epoch.val_accuracy is not None]
    if validated:
        kept = [
            (starts[t] + record.best_epoch + 1.0, record.epochs[record.best_epoch].val_accuracy)
            for t, record in enumerate(records)
            if record.epochs
        ]
        marks = [point for one in kept for point in (one, (one[0], None))]
        lines = [*_pieces(validated, starts, "c0 thin"), Line("", marks, "c1 dots")]
        axes = _epoch_axes("Validation accuracy", starts, percent_ticks(0.0, 1.0))
        note = "In percent; a dot is the epoch that was kept"
        charts.append(Chart("Validation accuracy", note, line_chart(axes, lines)))
    return charts


def _values(points: Sequence[tuple[int, float]], steps: int = 0) -> list[str]:
    """The text at points of a run of `steps` steps: in percent, as exactly as there is room for."""
    steps = steps or len(points)
    if steps > MOST_STEPS:
        return []
    return [signed(value) if steps <= ROOMY_STEPS else whole(value) for _, value in points]


def percent_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Rules for fractions, written in percent."""
    return [(value / 100, f"{value:g}") for value in ticks(100 * low, 100 * high)]


def step_ticks(positions: Mapping[int, float]) -> list[tuple[float, str]]:
    """The numbers of steps at their positions; of many, only as many as do not touch."""
    every = next(k for k in (1, 2, 5, 10, 20, 50, len(positions)) if len(positions) <= k * MOST_STEPS)
    return [(x, str(step)) for step, x in positions.items() if step % every == 0]


def _loss_chart(
    title: str, note: str, points: Sequence[tuple[float, float]], starts: Sequence[int], style: str
) -> Chart:
    drawn = thinned(points)
    high, low = max(y for _, y in drawn), min(y for _, y in drawn)
    rules = [(value, f"{value:g}") for value in ticks(min(low, 0.0), high, most=4)]
    axes = _epoch_axes(title, starts, rules)
    return Chart(title, note, line_chart(axes, _pieces(points, starts, f"{style} thin")))


def _pieces(points: Sequence[tuple[float, float]], starts: Sequence[int], style: str) -> list[Line]:
    """One line per step, so that none is drawn from one step to the next."""
    lines = []
    most = max(240 // (len(starts) - 1), 24)
    for start, end in pairwise(starts):
        own = [(k, y) for k, y in points if start < k <= end]
        if own:
            lines.append(Line("", thinned(own, most), style))
    return lines


def step_axes(title: str, description: str, steps: int, rules: Sequence[tuple[float, str]]) -> Axes:
    """Steps from 1 on the one axis, `rules` on the other."""
    return Axes(
        title=title,
        description=description,
        y_ticks=rules,
        x_ticks=step_ticks({step: step for step in range(1, steps + 1)}),
        x_title="after step",
        x_range=(1, steps),
    )


def _epoch_axes(title: str, starts: Sequence[int], rules: Sequence[tuple[float, str]]) -> Axes:
    middles = {step: (a + b + 1) / 2 for step, (a, b) in enumerate(pairwise(starts), start=1) if b > a}
    return Axes(
        title=title,
        description=f"{title} over the epochs of {len(middles)} steps",
        y_ticks=rules,
        x_ticks=step_ticks(middles),
        x_title="epochs of step",
        x_range=(1, starts[-1]),
        dividers=[start + 0.5 for start in sorted(set(starts))[1:-1]],
        width=SMALL_WIDTH,
        height=SMALL_HEIGHT,
    )
