"""`avcil cache import`: published features and split files into a token cache."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import err, out, printable

if TYPE_CHECKING:
    from avcil.published.importer import ImportSummary

MAX_FAILURES_SHOWN = 10


def cache_import(
    released: Annotated[
        Path,
        typer.Argument(help="Folder of the published features, at any depth below.", metavar="RELEASED_DIR"),
    ],
    cache: Annotated[Path, typer.Option("--out", help="Token cache to write or to go on with.")],
    splits: Annotated[
        Path | None, typer.Option(help="Folder of the split files.", show_default="in RELEASED_DIR")
    ] = None,
    visual: Annotated[
        Path | None, typer.Option(help="File of the visual features.", show_default="in RELEASED_DIR")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="File of the audio features.", show_default="in RELEASED_DIR")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="released-ave (frames at 10 per second), released (8), auto: AVE's are a .npy file."
        ),
    ] = "auto",
    tokens: Annotated[
        str, typer.Option(help="How visual tokens are stored: float16, float32, or int8 at half the size.")
    ] = "float16",
) -> None:
    """Turn features that the authors of AV-CIL published into a token cache.

    Their pickles are read without unpickling them, a clip at a time. Run it again to go on. Example:

    avcil cache import AVE/ --out cache
    """
    from avcil.published.features import open_features
    from avcil.published.importer import ImportPlan, import_features
    from avcil.published.layout import ReleasedFiles
    from avcil.report.progress import progress

    files = ReleasedFiles.find(released, visual, audio, splits)
    out.print(f"visual: {files.visual}\naudio: {files.audio}\nsplits: {files.splits}", markup=False)
    with (
        closing(open_features(files.visual)) as frames,
        closing(open_features(files.audio)) as sound,
    ):
        plan = ImportPlan.make(files.splits, frames, sound, recipe, tokens)
        size = f"{len(plan.clips)} clips of {plan.classes} classes, {plan.size_bytes / 1e9:.2f} GB of tokens"
        out.print(f"{size}, recipe {plan.recipe}")
        with progress(out, "importing") as advance:
            summary = import_features(
                cache,
                plan.info,
                plan.clips,
                frames,
                sound,
                lambda now: advance(now.done, now.total, f"{now.read_bytes / 1e9:.1f} GB read"),
            )
    _show(summary, cache)
    out.print(f"cache: {cache}\nnext: avcil train {quote(str(cache))} --out RUN --steps N", markup=False)


def _show(summary: ImportSummary, cache: Path) -> None:
    out.print(
        f"{summary.done} clips imported, {summary.read_bytes / 1e9:.2f} GB read in {summary.elapsed_s:.1f} s "
        f"({summary.gb_per_s:.2f} GB/s), {summary.already} there before, {len(summary.failures)} failed"
    )
    if summary.unlisted:
        err.print(f"note: {summary.unlisted} clips have features and stand in no split; they are left out")
    shown = list(summary.failures.items())[:MAX_FAILURES_SHOWN]
    for clip_id, (kind, detail) in shown:
        err.print(printable(f"  failed: {clip_id}: {kind}: {detail}"), markup=False)
    if len(summary.failures) > len(shown):
        err.print(f"  and {len(summary.failures) - len(shown)} more")
    if summary.failures:
        err.print(f"  all failures: {cache / 'failures.csv'}", markup=False)
