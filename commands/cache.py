"""`avcil cache`: what a token cache holds, its checksums, its labels, and its tokens as other files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avcil.commands.cache_import import cache_import
from avcil.commands.console import err, out, printable, show
from avcil.commands.options import AsJson, TokenGrid

if TYPE_CHECKING:
    from avcil.cache.operations.verify import Verification

MAX_BAD_ROWS_SHOWN = 20

app = typer.Typer(help="Inspect a token cache, check it, take its tokens elsewhere.", no_args_is_help=True)
app.command("import")(cache_import)

CachePath = Annotated[Path, typer.Argument(help="Folder of the token cache.", metavar="CACHE")]
ExportForm = Annotated[
    Literal["npz", "npy"], typer.Option("--to", help="npz: one file a clip. npy: one file a split.")
]
CopiedStatistics = Annotated[
    Literal["mean", "mean-std", "mean-std-max"] | None,
    typer.Option(
        help="Of visual tokens over time and space, instead of them.",
        show_default="mean-std, or none with --grid",
    ),
]


@app.command()
def info(
    caches: Annotated[list[Path], typer.Argument(help="Token caches; several are taken as one.")],
    as_json: AsJson = False,
) -> None:
    """Say what a cache holds: recipe, encoders, size, coverage of classes and splits, failures.

    Example:

    avcil cache info cache
    """
    from avcil.cache import TokenCache
    from avcil.cache.operations.summary import summarise
    from avcil.report.cache_tables import cache_lines, coverage_table

    summary = summarise(TokenCache(*caches))
    if as_json:
        out.print_json(json.dumps(asdict(summary), default=str))
        return
    for line in cache_lines(summary):
        out.print(printable(line), markup=False)
    out.print()
    show(coverage_table(summary))


@app.command()
def verify(
    cache: CachePath,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mark bad rows missing, so that extract redoes them.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="At once.", show_default="cores")] = None,
    as_json: AsJson = False,
) -> None:
    """Check every checksum; exit code 1 if a row is bad, with the list of them.

    Example:

    avcil cache verify cache --repair
    """
    from avcil.cache import TokenCache
    from avcil.cache.operations.verify import mark_missing
    from avcil.cache.operations.verify import verify as check
    from avcil.report.progress import progress

    opened = TokenCache(cache)
    with progress(err, "checking") as on_progress:
        found = check(opened, threads=threads, on_progress=on_progress)
    if repair:
        mark_missing(opened, found.bad)
    if as_json:
        content = {**asdict(found), "gb_per_s": found.gb_per_s, "repaired": repair}
        out.print_json(json.dumps(content, default=str))
    else:
        _show_verification(found, repair)
    if found.bad:
        raise typer.Exit(1)


def _show_verification(found: Verification, repaired: bool) -> None:
    out.print(
        f"{found.rows} rows, {found.size_bytes / 1e9:.2f} GB checked in {found.elapsed_s:.1f} s "
        f"({found.gb_per_s:.2f} GB/s): {len(found.bad)} bad"
    )
    for one in found.bad[:MAX_BAD_ROWS_SHOWN]:
        out.print(printable(f"  bad: {one.id} ({one.shard.name}, row {one.row})"), markup=False)
    if len(found.bad) > MAX_BAD_ROWS_SHOWN:
        out.print(f"  and {len(found.bad) - MAX_BAD_ROWS_SHOWN} more; --json lists all")
    if found.bad:
        again = "give the command that made the cache again to redo them"
        out.print(f"marked missing: {again}" if repaired else f"--repair marks them missing; then {again}")


@app.command()
def export(
    cache: CachePath,
    folder: Annotated[Path, typer.Option("--out", help="New folder for the files.")],
    form: ExportForm = "npz",
) -> None:
    """Write the tokens as numpy files, with a table of ids, labels and splits.

    Example:

    avcil cache export cache --to npz --out tokens
    """
    from avcil.cache import TokenCache
    from avcil.cache.operations.export import export as write
    from avcil.report.progress import progress

    with progress(err, "exporting") as on_progress:
        count = write(TokenCache(cache), folder, form, on_progress)
    out.print(f"{count} clips: {folder}", markup=False)


@app.command()
def pool(
    cache: CachePath,
    pooled: Annotated[Path, typer.Option("--out", help="Token cache to write or to go on with.")],
    statistics: CopiedStatistics = None,
    grid: TokenGrid = None,
) -> None:
    """Copy a cache with statistics in place of its visual tokens, or with fewer of them.

    Statistics take 3 to 9 kB a clip, and heads on statistics need no more. Run it again to go on. Example:

    avcil cache pool cache --out pooled --statistics mean-std
    """
    from avcil.cache import TokenCache
    from avcil.cache.operations.pool import pool as write
    from avcil.report.progress import progress

    if statistics is None and grid is None:
        statistics = "mean-std"
    with progress(out, "pooling") as show:
        made = write(TokenCache(cache), pooled, statistics=statistics, grid=grid, on_progress=show)
    out.print(
        f"{made.done} clips pooled, {made.already} there before: {made.clip_bytes / 1e3:.1f} kB a clip "
        f"instead of {made.source_bytes / 1e3:.1f}"
    )
    if made.missing:
        err.print(f"note: {made.missing} clips have no tokens in {cache}", markup=False)
    out.print(f"cache: {pooled}", markup=False)


@app.command()
def relabel(
    cache: CachePath,
    table: Annotated[Path, typer.Argument(help="CSV file: id, and label or split or source.")],
) -> None:
    """Give clips other labels or splits, or make the manifest anew from a list of all clips.

    The manifest carries checksums: edit a copy of it and hand it over here. Example:

    avcil cache relabel cache labels.csv
    """
    from avcil.cache.operations.relabel import relabel as change

    out.print(f"{change(cache, table)} clips changed: {cache}", markup=False)
