"""`avcil eval`: what a run learned and forgot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avcil.commands.console import err, exclusive, out, show, show_prose, write
from avcil.commands.options import AsJson, AsLatex

if TYPE_CHECKING:
    from avcil.train.record.results import Results
    from avcil.train.record.run_folder import Run

EvaluatedSplit = Annotated[Literal["test", "val"], typer.Option(help="Whose clips are classified.")]


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train.")],
    cache: Annotated[
        list[Path] | None,
        typer.Option(help="The run's cache, if it was moved; once for each.", show_default="where it was"),
    ] = None,
    split: EvaluatedSplit = "test",
    html: Annotated[
        bool, typer.Option("--html", help="Write a page with everything, RUN/report.html.")
    ] = False,
    as_json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one number a line, as fractions.")] = False,
    latex: AsLatex = False,
) -> None:
    """Show what a run learned and what it forgot.

    The clips are classified again with every step's network and compared with training's record. Example:

    avcil eval run --html
    """
    from avcil.report.evaluation_tables import FORMATS
    from avcil.report.pages.run import write_run_page
    from avcil.train.record.run_folder import Run

    chosen = exclusive({"html": html, "json": as_json, "csv": csv, "latex": latex})
    folder = Run.open(run)
    result = run_evaluation(folder, cache or (), split)
    if chosen == "html":
        out.print(f"report: {write_run_page(folder, result)}", markup=False)
    elif chosen is not None:
        write(FORMATS[chosen](result))
    else:
        show_evaluation(result)
        out.print(f"next: avcil eval {quote(str(run))} --html for a page with all of it", markup=False)


def run_evaluation(
    run: Run, cache_paths: Sequence[Path] = (), split: Literal["test", "val"] = "test"
) -> Results:
    """Evaluate a run, with progress on standard error."""
    from avcil.report.progress import progress
    from avcil.train.record.evaluation import evaluate_run

    with progress(err, "evaluating") as on_step:
        return evaluate_run(run, cache_paths, on_step, split=split)


def show_evaluation(result: Results) -> None:
    """Print everything that fits a terminal."""
    from avcil.report.evaluation_tables import tables
    from avcil.report.words import story

    show_prose(" ".join(story(result)))
    for table in tables(result):
        out.print()
        show(table)
