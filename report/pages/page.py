"""Pages made from templates, with everything escaped, and the parts that pages share.

A page is one file that loads nothing. Everything that is not markup of ours is escaped by the template
engine, and a content security policy in the page forbids scripts and requests, whatever a label may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import avcil
from avcil.report.words import percent

DARK_CELL = 0.65  # the level from which text on a cell takes the other colour
EMPTY_CELL = Markup('<td class="none"></td>')


@dataclass(frozen=True)
class Number:
    """A headline number with its unit and its meaning in words."""

    name: str
    value: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and, after it, a remark."""

    title: str
    note: str
    drawing: Markup


@dataclass(frozen=True)
class HeatMap:
    """A square matrix whose cells are shaded, the diagonal framed; a row is its head and its cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Markup]]]


def heat_map(
    title: str,
    columns: Sequence[str],
    heads: Sequence[str],
    shares: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]] | None = None,
) -> HeatMap:
    """Cells shaded by `shares` in [0, 1], with these in percent where no `texts` are given.

    Rows may be shorter than the matrix is wide: the rest stays empty.
    """
    rows = []
    shown = texts or [list(map(percent, row)) for row in shares]
    for number, (head, words, levels) in enumerate(zip(heads, shown, shares, strict=True)):
        pairs = enumerate(zip(words, levels, strict=True))
        cells = [_shaded(word, level, own=column == number) for column, (word, level) in pairs]
        rows.append((head, [*cells, *[EMPTY_CELL] * (len(columns) - len(cells))]))
    return HeatMap(title, columns, rows)


def _shaded(text: str, level: float, *, own: bool) -> Markup:
    """A table cell shaded by `level` in [0, 1]; `own` frames it."""
    classes = " ".join(name for name, on in (("hi", level > DARK_CELL), ("own", own)) if on)
    style = Markup(' style="--v:{}"').format(f"{level:.2f}".rstrip("0").rstrip(".")) if level else ""
    named = Markup(' class="{}"').format(classes) if classes else ""
    return Markup("<td{}{}>{}</td>").format(named, style, text)


def label(text: str, index: int | None = None) -> Markup:
    """A label or id, held apart from the writing direction around it; `index` is its number, from 0."""
    number = Markup("") if index is None else Markup('<span class="index">{}</span>').format(index + 1)
    return number + Markup('<bdi class="name" title="{0}">{0}</bdi>').format(text)


def render(template: str, **content: object) -> str:
    """The page that `template` in `pages/` makes of `content`."""
    environment = Environment(
        loader=PackageLoader("avcil.report.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=avcil.__version__, **content)
