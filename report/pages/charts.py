"""Charts of lines and of labelled points as SVG text, for a page that is light or dark.

Colours and fonts are classes of the page's style sheet (`pages/style.css`): `c0` to `c6` are seven hues of
like weight on both grounds. No two lines or points are told apart by hue alone: each is labelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH, HEIGHT = 360, 220  # a phone's column, so that letters never shrink
LEFT, TOP, BOTTOM, INSET = 38, 12, 30, 14
LABEL_GAP = 13  # between the labels of two lines
CAPITAL, LETTER = 9.6, 7.0  # widths of a label's letters, at most on average
RADIUS = 4.5  # of a point
MOST_POINTS = 240  # of a curve; more than the pixels it is drawn on


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        label: a word or two, written at its end; may be "".
        points: (x, y); y is None where the curve has a gap.
        style: CSS classes: a colour `c0` to `c6` or `faint`, and `dots`, `dashed` or `thin`.
        spread: half the height of the error bar at every point, or nothing.
        values: the text at every point, or nothing.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    style: str = "c0"
    spread: Sequence[float | None] = ()
    values: Sequence[str] = ()


@dataclass(frozen=True)
class Point:
    """One labelled point.

    Attributes:
        label: a word or two, written beside it.
        x, y: where it is.
        style: CSS classes: a colour.
        note: what a pointer that rests on it is told.
    """

    label: str
    x: float
    y: float
    style: str
    note: str


@dataclass(frozen=True)
class Axes:
    """What the lines are drawn on.

    Attributes:
        title: for those who do not see the picture, as is `description`.
        y_ticks: (y, text) of every horizontal rule; the first and the last one bound the picture.
        x_ticks: (x, text) below.
        x_title: what x counts.
        x_range: first and last x.
        dividers: where vertical rules stand.
        label_width: room on the right for the lines' labels.
        width, height: of the picture, in the units of its letters' size (CSS pixels, before it is scaled).
    """

    title: str
    description: str
    y_ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[float, str]]
    x_title: str
    x_range: tuple[float, float]
    dividers: Sequence[float] = field(default=())
    label_width: int = 8
    width: int = WIDTH
    height: int = HEIGHT


def line_chart(axes: Axes, lines: Sequence[Line]) -> Markup:
    """One `<svg>` that scales with its column."""
    at = _Scale(axes)
    parts = _frame(axes, at)
    for line in lines:
        parts += _curve(at, line)
    return _svg(axes, [*parts, *_labels(at, lines)])


def point_chart(axes: Axes, points: Sequence[Point]) -> Markup:
    """One `<svg>` like `line_chart`, with a label beside every point where there is room for it."""
    at = _Scale(axes)
    places = [(at.x(point.x), at.y(point.y)) for point in points]
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    parts = _frame(axes, at)
    for point, (x, y) in zip(points, places, strict=True):
        told = _tag("title", point.note)
        parts.append(_tag("circle", told, cx=x, cy=y, r=RADIUS, klass=f"point {point.style}"))
    for point, (x, y) in zip(points, places, strict=True):
        box = _free_box(axes, x, y, _width(point.label), taken)
        taken.append(box)
        parts.append(_tag("text", point.label, x=box[0], y=box[3] - 3, klass=f"tag {point.style}"))
    return _svg(axes, parts)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _free_box(axes: Axes, x: float, y: float, width: float, taken: Sequence[Box]) -> Box:
    """The place for a label of a point at x, y that overlaps least with others; of equals the nearest."""
    half, beside = LABEL_GAP / 2, RADIUS + 3
    candidates = []
    for shift in (0, -LABEL_GAP, LABEL_GAP, -2 * LABEL_GAP, 2 * LABEL_GAP, -3 * LABEL_GAP, 3 * LABEL_GAP):
        lefts = (x + beside, x - beside - width) if abs(shift) <= LABEL_GAP else (x + beside,)
        middle = (x - width / 2,) if shift else ()
        candidates += [(left, y + shift - half, left + width, y + shift + half) for left in (*lefts, *middle)]

    def overlap(box: Box) -> float:
        sides = [
            (min(box[2], one[2]) - max(box[0], one[0]), min(box[3], one[3]) - max(box[1], one[1]))
            for one in taken
        ]
        outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - axes.width)
        outside += max(0.0, -box[1]) + max(0.0, box[3] - (axes.height - BOTTOM))
        return sum(w * h for w, h in sides if w > 0 and h > 0) + LABEL_GAP * outside

    return min(candidates, key=overlap)


def _width(label: str) -> float:
    return sum(CAPITAL if letter.isupper() else LETTER for letter in label)


def _frame(axes: Axes, at: _Scale) -> list[Markup]:
    """What lines and points are drawn on."""
    parts = [_tag("title", axes.title), _tag("desc", axes.description)]
    for y, text in axes.y_ticks:
        style = "rule base" if y == 0 else "rule"
        parts.append(_tag("line", x1=LEFT, x2=at.right, y1=at.y(y), y2=at.y(y), klass=style))
        parts.append(_tag("text", text, x=LEFT - 6, y=at.y(y) + 4, klass="tick end"))
    for x in axes.dividers:
        parts.append(_tag("line", x1=at.x(x), x2=at.x(x), y1=TOP, y2=at.bottom, klass="rule dotted"))
    for x, text in axes.x_ticks:
        parts.append(_tag("text", text, x=at.x(x), y=at.bottom + 15, klass="tick middle"))
    middle = (LEFT + at.right) / 2
    parts.append(_tag("text", axes.x_title, x=middle, y=axes.height - 2, klass="tick middle"))
    return parts


def _svg(axes: Axes, parts: Sequence[Markup]) -> Markup:
    view = f"0 0 {axes.width} {axes.height}"
    return _tag("svg", *parts, viewBox=view, role="img", klass="chart")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    width = next(power * k for k in (1, 2, 5, 10, 20) if span / (power * k) <= most)
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return [round(k * width, 12) for k in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most about `most` points: means over runs of neighbours of equal length."""
    size = math.ceil(len(points) / most) or 1
    groups = [points[k : k + size] for k in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups
    ]


class _Scale:
    """From numbers to the picture's coordinates."""

    def __init__(self, axes: Axes) -> None:
        self.right = axes.width - axes.label_width
        self.bottom = axes.height - BOTTOM
        self._x, self._y = axes.x_range, (axes.y_ticks[0][0], axes.y_ticks[-1][0])

    def x(self, value: float) -> float:
        low, high = self._x
        share = (value - low) / (high - low) if high > low else 0.5
        return LEFT + INSET + (self.right - LEFT - 2 * INSET) * share

    def y(self, value: float) -> float:
        low, high = self._y
        return self.bottom - (self.bottom - TOP) * (value - low) / (high - low)


def _curve(at: _Scale, line: Line) -> list[Markup]:
    parts, path, pen = [], [], "M"
    for x, y in line.points:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{at.x(x):.1f} {at.y(y):.1f}")
        pen = "L"
    parts.append(_tag("path", d="".join(path), klass=f"curve {line.style}"))
    drawn = [(k, x, y) for k, (x, y) in enumerate(line.points) if y is not None]
    for k, x, y in drawn:
        half = line.spread[k] if line.spread else None
        if half:
            bar = f"M{at.x(x):.1f} {at.y(y - half):.1f}V{at.y(y + half):.1f}"
            parts.append(_tag("path", d=bar, klass=f"curve thin {line.style}"))
        if "dots" in line.style:
            parts.append(_tag("circle", cx=at.x(x), cy=at.y(y), r=3, klass=line.style))
        if line.values:
            above = at.y(y) - 9 if at.y(y) > TOP + 14 else at.y(y) + 17
            parts.append(_tag("text", line.values[k], x=at.x(x), y=above, klass="value middle"))
    return parts


def _labels(at: _Scale, lines: Sequence[Line]) -> list[Markup]:
    """At the lines' ends, moved apart where they would touch."""
    ends = []
    for line in lines:
        heights = [y for _, y in line.points if y is not None]
        if line.label and heights:
            ends.append((at.y(heights[-1]) + 4, line))
    ends.sort(key=lambda end: end[0])
    parts, free = [], 0.0
    lowest = at.bottom + 4 - LABEL_GAP * (len(ends) - 1)
    for y, line in ends:
        free = max(min(y, max(lowest, 0)), free)
        parts.append(_tag("text", line.label, x=at.right + 4, y=free, klass=f"label {line.style}"))
        free += LABEL_GAP
        lowest += LABEL_GAP
    return parts


def _tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """An element with everything escaped that is not markup already; `klass` is the attribute `class`."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.replace("klass", "class"), _number(value))
        for key, value in attributes.items()
    )
    inside = Markup("").join(children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, inside)


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
