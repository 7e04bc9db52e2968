"""`avcil eval`: what a run learned and forgot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import err, out, show

if TYPE_CHECKING:
    from avcil.train.results import Evaluation


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train.")],
    cache: Annotated[
        list[Path] | None,
        typer.Option(help="The run's cache, if it was moved; once for each.", show_default="where it was"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show what a run learned and what it forgot.

    The test clips are classified again with every step's network and compared with training's record.
    """
    from avcil.report import tables

    result = run_evaluation(run, cache or ())
    if as_json:
        from avcil.train.results import to_json

        typer.echo(to_json(result))
        return
    for table in (tables.steps_table(result), tables.matrix_table(result)):
        show(table)
        out.print()
    for line in tables.headline(result):
        out.print(line, markup=False)


def run_evaluation(run_path: Path, cache_paths: Sequence[Path] = ()) -> Evaluation:
    """Evaluate a run, with progress on standard error."""
    from avcil.report.progress import progress
    from avcil.train.evaluate import evaluate_run
    from avcil.train.run_folder import RunFolder

    with progress(err, "evaluating") as on_step:
        return evaluate_run(RunFolder.open(run_path), cache_paths, on_step)
