"""`avcil extract`: videos into a token cache."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avcil.commands.console import err, out, printable
from avcil.commands.options import AllowMissing, Batch, Decoder, TokenGrid, TokenStorage, Workers

if TYPE_CHECKING:
    from avcil.extract.engine import DiskNeed
    from avcil.extract.options import ExtractOptions
    from avcil.extract.sources.clip import Clip
    from avcil.extract.sources.manifest import Manifest

MAX_CLASSES_SHOWN = 7

RecipeName = Annotated[
    Literal["recommended", "released", "released-ave"],
    typer.Option(help="How clips are prepared: recommended, or as the published scripts do."),
]
ListFormat = Annotated[
    Literal["auto", "folder", "csv", "ave", "vggsound", "kinetics", "authors"],
    typer.Option(help="What SOURCE is (see docs/sources.md)."),
]
EncoderPrecision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="auto: fp16 on a GPU, fp32 on a CPU.")
]

PooledStatistics = Annotated[
    Literal["mean", "mean-std", "mean-std-max"] | None,
    typer.Option(help="Store only these statistics of visual tokens over time and space, 3 to 9 kB a clip."),
]


def extract(
    source: Annotated[
        Path, typer.Argument(help="Folder of class folders, CSV id,path,label,split, or a published list.")
    ],
    cache: Annotated[Path, typer.Option("--out", help="Token cache to write or to go on with.")],
    visual_encoder: Annotated[
        str, typer.Option(help="videomae-small, -base, -large, demo, or your own package.module:factory.")
    ] = "videomae-base",
    audio_encoder: Annotated[
        str, typer.Option(help="audiomae-base, demo, or your own package.module:factory.")
    ] = "audiomae-base",
    visual_weights: Annotated[
        str | None,
        typer.Option(help="Folder, .pth file, NAME[@REVISION] on the hub; 'random' to try the plumbing."),
    ] = None,
    audio_weights: Annotated[
        str | None,
        typer.Option(help="Folder, file, NAME[@REVISION] on the hub; 'random' to try the plumbing."),
    ] = None,
    recipe: RecipeName = "recommended",
    format: ListFormat = "auto",
    videos: Annotated[
        Path | None, typer.Option(help="Folder of a list's videos.", show_default="where SOURCE is")
    ] = None,
    only: Annotated[
        Path | None, typer.Option("--list", help="File of ids, one a line: take only these from a list.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="For class folders without splits: counts 16/4/4 or shares 0.8/0.1/0.1.")
    ] = "0.8/0.1/0.1",
    split_seed: Annotated[int, typer.Option(help="Which clips go to which split.")] = 0,
    decoder: Decoder = "auto",
    workers: Workers = None,
    batch: Batch = None,
    devices: Annotated[
        str, typer.Option(help="auto (every GPU, else the CPU), cpu, or a list like cuda:0,cuda:1.")
    ] = "auto",
    precision: EncoderPrecision = "auto",
    tokens: TokenStorage = "float16",
    pool: PooledStatistics = None,
    grid: TokenGrid = None,
    deadline_s: Annotated[float, typer.Option(min=1.0, help="Seconds a clip may take to decode.")] = 60.0,
    allow_missing: AllowMissing = None,
    retry_failed: Annotated[bool, typer.Option(help="Try clips again that failed before.")] = False,
    compile: Annotated[bool, typer.Option(help="Run the encoders through torch.compile.")] = False,
) -> None:
    """Encode every video once into an HDF5 cache of tokens.

    Run it again to go on after an interruption. Example:

    avcil extract videos/ --out cache --visual-weights videomae-base/ --audio-weights audiomae.pth
    """
    from avcil.extract.options import ExtractOptions
    from avcil.extract.sources.manifest import SourceOptions, read_manifest
    from avcil.extract.sources.splits import SplitRule

    rule = SplitRule.parse(split, seed=split_seed)
    manifest = read_manifest(source, SourceOptions(format, videos, only, rule))
    _show_coverage(manifest)
    options = ExtractOptions(
        visual_encoder=visual_encoder,
        audio_encoder=audio_encoder,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
        recipe=recipe,
        decoder=decoder,
        workers=workers,
        batch=batch,
        device=devices,
        precision=precision,
        tokens=tokens,
        pool=pool,
        grid=grid,
        deadline_s=deadline_s,
        retry_failed=retry_failed,
        allow_missing=frozenset({allow_missing} if allow_missing else ()),
        compile=compile,
    )
    run_extraction(list(manifest.clips), cache, options)
    out.print(f"cache: {cache}\nnext: avcil train {quote(str(cache))} --out RUN --steps N", markup=False)


def _show_coverage(manifest: Manifest) -> None:
    """Say which classes lack videos, the worst first; nothing if all are there."""
    if manifest.missing:
        n = len(manifest.clips)
        err.print(f"{len(manifest.missing)} of {n} videos are missing; there are, by class:", markup=False)
        partial = [one for one in manifest.coverage() if one.present < one.listed]
        for one in partial[:MAX_CLASSES_SHOWN]:
            share = f"{100 * one.present / one.listed:.0f} %"
            line = f"  {share:>5}  {one.present} of {one.listed}  {one.label}"
            err.print(printable(line), markup=False)
        if len(partial) > MAX_CLASSES_SHOWN:
            err.print(f"  and {len(partial) - MAX_CLASSES_SHOWN} more classes lack some", markup=False)
    if manifest.unresolved:
        named = ", ".join(manifest.unresolved[:3])
        n = len(manifest.unresolved)
        line = f"{n} listed ids are left out, no class or no clip goes with them: {named}"
        err.print(printable(line), markup=False)


def run_extraction(clips: list[Clip], cache: Path, options: ExtractOptions) -> None:
    """Extract and say what came of it."""
    from avcil.extract.engine import extract as encode
    from avcil.report.progress import progress

    classes = len({clip.label for clip in clips})

    def on_start(need: DiskNeed) -> None:
        out.print(
            f"{len(clips)} clips of {classes} classes, {need.new_clips} new to the cache: "
            f"{need.needed_bytes / 1e9:.2f} GB to write, {need.free_bytes / 1e9:.1f} GB free"
        )

    with progress(out, "extracting") as show:
        summary = encode(
            clips,
            cache,
            options,
            on_progress=lambda now: show(now.already + now.done + now.failed, now.total),
            on_start=on_start,
        )
    out.print(
        f"{summary.done} clips encoded in {summary.elapsed_s:.1f} s ({summary.clips_per_s:.1f} clips/s), "
        f"{summary.already} there before, {len(summary.failures)} failed",
        markup=False,
    )
    if summary.done:
        out.print(summary.verdict)
    for failure in summary.failures[:10]:
        line = f"  failed: {failure.id}: {failure.kind}: {failure.detail}"
        err.print(printable(line), markup=False)
    if len(summary.failures) > 10:
        err.print(f"  and {len(summary.failures) - 10} more")
    if summary.others:
        err.print(
            f"note: {summary.others} clips of earlier extractions stay in the cache, with their splits, and "
            "will be trained on; choose another --out to leave them out"
        )
    if summary.failures:
        err.print(f"  all failures: {cache / 'failures.csv'}", markup=False)
