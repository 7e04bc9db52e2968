"""A table of words and numbers, and its text for a terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table as RichTable
from rich.text import Text

from avcil.report.labels import in_latex, in_markdown

Cell = str | int | float | None  # None is an empty cell
DASHES = 3  # of a rule in Markdown, at least


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its head; a table whose columns have no names has no header.
        align: "prose" is text on the left that is wrapped where a terminal ends.
        latex: its head in LaTeX where that is a formula.
        bold: stands out on a terminal.
    """

    name: str
    align: Literal["left", "right", "prose"] = "right"
    latex: str | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """What all texts of a table hold.

    Attributes:
        caption: a line above it, may be "".
        columns: names and alignment.
        rows: a cell for every column; cells are shown as `str` does, in CSV with all digits of a number.
        foot: a last row about all others, or nothing.
        note: what the numbers are, may be "".
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Cell] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for row in self._all_rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells in a row of {len(self.columns)} columns: {row}")

    @property
    def prose(self) -> bool:
        """Whether a column is wrapped on a terminal."""
        return any(column.align == "prose" for column in self.columns)

    def terminal(self) -> RichTable:
        """For rich, without the note. Cells have to be printable."""
        table = RichTable(
            title=Text(self.caption, style="bold") if self.caption else None,
            title_justify="left",
            header_style="dim",
            show_header=any(column.name for column in self.columns),
            box=None,
        )
        for column in self.columns:
            wrapped = column.align == "prose"
            table.add_column(
                Text(column.name),
                justify="right" if column.align == "right" else "left",
                style="bold" if column.bold else None,
                ratio=1 if wrapped else None,
                no_wrap=self.prose and not wrapped,
            )
        for row in self.rows:
            table.add_row(*map(Text, _words(row)))
        if self.foot:
            table.add_row(*map(Text, _words(self.foot)), style="bold")
        return table

    def markdown(self) -> str:
        """With aligned columns, the caption in bold above and the note below."""
        lines = [[column.name for column in self.columns], *map(_words, self._all_rows)]
        escaped = [[in_markdown(word) for word in line] for line in lines]
        widths = [max(DASHES, *map(len, column)) for column in zip(*escaped, strict=True)]
        right = [column.align == "right" for column in self.columns]
        rule = ["-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)]
        aligned = [
            [word.rjust(w) if r else word.ljust(w) for word, w, r in zip(line, widths, right, strict=True)]
            for line in escaped
        ]
        table = [f"| {' | '.join(line)} |" for line in (aligned[0], rule, *aligned[1:])]
        return "\n".join([f"**{in_markdown(self.caption)}**", "", *table, "", in_markdown(self.note)])

    def latex(self) -> str:
        r"""A `table` environment with the rules of booktabs (`\usepackage{booktabs}`)."""
        head = [in_latex(column.name) if column.latex is None else column.latex for column in self.columns]
        rows = [list(map(in_latex, _words(row))) for row in self._all_rows]
        first, *others = [" & ".join(line) + r" \\" for line in (head, *rows)]
        spec = "".join("r" if column.align == "right" else "l" for column in self.columns)
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{in_latex(f'{self.caption}; {self.note}.')}}}",
                rf"\begin{{tabular}}{{{spec}}}",
                r"\toprule",
                first,
                r"\midrule",
                *others,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )

    def comma_separated(self) -> str:
        """Header and rows."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.name for column in self.columns)
        writer.writerows(self._all_rows)
        return file.getvalue()

    @property
    def _all_rows(self) -> list[Sequence[Cell]]:
        return [*self.rows, self.foot] if self.foot else list(self.rows)


def _words(row: Sequence[Cell]) -> list[str]:
    return ["" if cell is None else str(cell) for cell in row]
