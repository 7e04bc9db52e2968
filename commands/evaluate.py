"""`avcil eval`: what a run learned and forgot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import err, exclusive, out, show, write

if TYPE_CHECKING:
    from avcil.train.record.results import Evaluation, Split
    from avcil.train.record.run_folder import RunFolder


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train.")],
    cache: Annotated[
        list[Path] | None,
        typer.Option(help="The run's cache, if it was moved; once for each.", show_default="where it was"),
    ] = None,
    split: Annotated[str, typer.Option(help="test or val clips.")] = "test",
    html: Annotated[
        bool, typer.Option("--html", help="Write a page with everything, RUN/report.html.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one number a line, as fractions.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX, with booktabs.")] = False,
) -> None:
    """Show what a run learned and what it forgot.

    The clips are classified again with every step's network and compared with training's record. Example:

    avcil eval run --html
    """
    from avcil.report.evaluation_text import FORMATS
    from avcil.train.record.run_folder import RunFolder

    chosen = exclusive({"html": html, "json": as_json, "csv": csv, "latex": latex})
    folder = RunFolder.open(run)
    result = run_evaluation(folder, cache or (), split=checked_split(split))
    if chosen == "html":
        out.print(f"report: {write_report(folder, result)}", markup=False)
    elif chosen is not None:
        write(FORMATS[chosen](result))
    else:
        show_evaluation(result)
        out.print(f"next: avcil eval {quote(str(run))} --html for a page with all of it", markup=False)


def run_evaluation(run: RunFolder, cache_paths: Sequence[Path] = (), *, split: Split = "test") -> Evaluation:
    """Evaluate a run, with progress on standard error."""
    from avcil.report.progress import progress
    from avcil.train.record.evaluation import evaluate_run

    with progress(err, "evaluating") as on_step:
        return evaluate_run(run, cache_paths, on_step, split=split)


def write_report(run: RunFolder, result: Evaluation) -> Path:
    """Write the page of a run into its folder and return its path; validation clips have their own."""
    from avcil.files import write_text
    from avcil.report.pages.run import run_page

    path = run.path / ("report.html" if result.split == "test" else f"report-{result.split}.html")
    write_text(path, run_page(run, result))
    return path


def show_evaluation(result: Evaluation) -> None:
    """Print everything that fits a terminal."""
    from avcil.report import tables
    from avcil.report.words import story
    from avcil.train.record.metrics import most_confused
    from avcil.train.record.results import MOST_CONFUSED

    show(tables.paragraph(" ".join(story(result))), prose=True)
    out.print()
    show(tables.steps_table(result))
    out.print()
    show(tables.matrix_table(result))
    out.print()
    show(tables.class_table(result))
    out.print()
    confused = most_confused(result.confusion, result.classes, MOST_CONFUSED)
    if confused:
        show(tables.confusion_table(confused))
        out.print()
    show(tables.headline_table(result), prose=True)


def checked_split(name: str) -> Split:
    """`name` as a split that can be evaluated."""
    from avcil.errors import ConfigError

    if name not in ("test", "val"):
        raise ConfigError(f"--split {name!r}; choose test or val")
    return "val" if name == "val" else "test"
