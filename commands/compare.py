"""`avcil compare`: runs beside each other, with statistics over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import err, exclusive, out, printable, show, write
from avcil.commands.options import AsJson, AsLatex

if TYPE_CHECKING:
    from avcil.report.comparison import Comparison

SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".json": "json", ".html": "html"}


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs at any depth.")],
    baseline: Annotated[
        str | None, typer.Option(help="Method to take differences to, run by run of the same seeds.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every number, as fractions.")] = False,
    latex: AsLatex = False,
    as_json: AsJson = False,
    html: Annotated[bool, typer.Option("--html", help="Write a page, compare.html or --out.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--out", help="Write there instead; .md, .csv, .tex, .json or .html says the format."),
    ] = None,
) -> None:
    """Compare finished runs: mean and standard deviation over seeds, one row per method and modality.

    Runs of other tokens, classes or steps stand in a table of their own. Example:

    avcil compare runs/ --baseline finetune --out results.md
    """
    from avcil.errors import ConfigError
    from avcil.files import write_text
    from avcil.report.comparison_tables import FORMATS
    from avcil.report.pages.compare import compare_page

    chosen = exclusive({"markdown": markdown, "csv": csv, "latex": latex, "json": as_json, "html": html})
    if file is not None and chosen is None:
        if file.suffix not in SUFFIXES:
            raise ConfigError(
                f"--out {file}: its ending is none of {', '.join(SUFFIXES)}; say --markdown or so"
            )
        chosen = SUFFIXES[file.suffix]
    tables = compared(runs, baseline)
    if chosen is None:
        show_comparisons(tables)
        return
    text = {**FORMATS, "html": compare_page}[chosen](tables)
    if chosen == "html":
        file = file or Path("compare.html")
    if file is None:
        write(text)
    else:
        write_text(file, text)
        out.print(f"written: {file}", markup=False)


def compared(runs: Sequence[Path], baseline: str | None = None) -> list[Comparison]:
    """Compare runs; say on standard error which stand in no table, and why there are several."""
    from avcil.report.comparison import compare_runs

    found = compare_runs(runs, baseline)
    for line in found.left_out:
        err.print(printable(f"left out: {line}"), markup=False)
    if len(found.tables) > 1:
        err.print("these runs differ in tokens, classes or steps and stand in a table for each")
    return found.tables


def show_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print a table for each, and what its numbers mean."""
    from avcil.report.comparison import COSTS, METRICS
    from avcil.report.comparison_tables import cost_table, outcome_table
    from avcil.train.record.metrics import DEFINITIONS

    for one in comparisons:
        show(outcome_table(one))
        out.print()
        show(cost_table(one))
        out.print()
    for metric in (*METRICS, *COSTS):
        out.print(f"{metric.replace('_', ' ')}: {DEFINITIONS[metric]}", markup=False)
