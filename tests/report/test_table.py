"""One table in every text format, with labels that hold what each of them takes for its own."""

import csv
import io

import pytest
from rich.console import Console

from avcil.report.table import Column, Table

LABEL = '50 % a_b | "c", $d <e>'
TABLE = Table(
    "a & b",
    [Column("class", "left"), Column("share"), Column("A_t", latex="$A_t$")],
    [[LABEL, 1 / 3, None], ["x", 12, "-"]],
    foot=["all", 1, 2],
    note="note_1",
)


def test_a_terminal_shows_cells_as_they_are() -> None:
    page = io.StringIO()
    Console(file=page, width=100).print(TABLE.terminal())
    lines = [line.split() for line in page.getvalue().splitlines()]
    assert [line[:2] for line in lines[:2]] == [["a", "&"], ["class", "share"]]
    assert lines[2] == [*LABEL.split(), str(1 / 3)] and lines[-1] == ["all", "1", "2"]


def test_markdown_is_aligned_and_escaped() -> None:
    lines = TABLE.markdown().splitlines()
    assert (lines[0], lines[-1]) == ("**a & b**", "note\\_1")
    assert len({len(line) for line in lines[2:-2]}) == 1 and len(lines[2:-2]) == 5
    assert r"| 50 % a\_b \| " in lines[4] and lines[3].endswith("-: | ---: |")


def test_latex_has_formulas_in_its_head_only() -> None:
    text = TABLE.latex()
    assert r"\begin{tabular}{lrr}" in text and r"class & share & $A_t$ \\" in text
    assert r"\caption{a \& b; note\_1.}" in text and r"50 \% a\_b \textbar{}" in text
    assert text.count(r"\\") == 4


def test_csv_has_every_digit() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.comma_separated())))
    assert rows[:2] == [["class", "share", "A_t"], [LABEL, repr(1 / 3), ""]]


def test_a_row_that_lacks_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in a row of 2 columns"):
        Table("", [Column("a"), Column("b")], [[1]])
