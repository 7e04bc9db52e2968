"""`avcil cache import`: published features and split files into a token cache."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import err, out, printable

if TYPE_CHECKING:
    from avcil.cache import CacheClip
    from avcil.published.features import Features
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
    from avcil.extract.sources.authors import CLIPS_NAME
    from avcil.published.features import Hdf5Features, open_features
    from avcil.published.layout import AUDIO_NAMES, VISUAL_NAMES, find_released

    lists = splits or find_released(released, (CLIPS_NAME,), "--splits").parent
    clips = listed_clips(lists)
    visual = visual or find_released(released, VISUAL_NAMES, "--visual")
    audio = audio or find_released(released, AUDIO_NAMES, "--audio")
    out.print(f"visual: {visual}\naudio: {audio}\nsplits: {lists}", markup=False)
    with closing(open_features(visual)) as seen, closing(open_features(audio)) as heard:
        if recipe == "auto":  # the features of the larger data sets are published as HDF5
            recipe = "released" if isinstance(seen, Hdf5Features) else "released-ave"
        summary = run_import(cache, clips, seen, heard, recipe, tokens)
    _show(summary, cache)
    out.print(f"cache: {cache}\nnext: avcil train {quote(str(cache))} --out RUN --steps N", markup=False)


def listed_clips(splits: Path) -> list[CacheClip]:
    """The clips of a folder of split files, classes ascending, as a cache's manifest wants them."""
    from avcil.cache import CacheClip
    from avcil.errors import ManifestError
    from avcil.extract.sources.authors import CLIPS_NAME, read_authors

    entries = read_authors(splits)
    if not entries:
        raise ManifestError(f"{splits / CLIPS_NAME}: it lists no clips")
    return [CacheClip(entry.id, str(entry.label), str(entry.split)) for entry in entries]


def run_import(
    cache: Path, clips: list[CacheClip], visual: Features, audio: Features, recipe: str, tokens: str
) -> ImportSummary:
    """Import with progress shown; `recipe` is one of `RECIPES`."""
    from avcil.cache import CacheInfo, TokenSpec
    from avcil.errors import ConfigError
    from avcil.extract.recipe import RECIPES
    from avcil.published.importer import import_features
    from avcil.published.layout import released_encoder, released_shapes
    from avcil.report.progress import progress

    if recipe not in RECIPES:
        raise ConfigError(f"recipe is {recipe!r}; it must be auto or one of {', '.join(RECIPES)}")
    visual_shape, audio_shape = released_shapes(clips, visual, audio)
    info = CacheInfo(
        visual=TokenSpec(visual_shape, tokens),
        audio=TokenSpec(audio_shape, "float32"),
        recipe=RECIPES[recipe].to_dict(),
        visual_encoder=released_encoder("visual", "videomae"),
        audio_encoder=released_encoder("audio", "audiomae"),
    )
    classes = len({clip.label for clip in clips})
    size_gb = len(clips) * (info.visual.row_bytes + info.audio.row_bytes) / 1e9
    out.print(f"{len(clips)} clips of {classes} classes, {size_gb:.2f} GB of tokens, recipe {recipe}")
    with progress(out, "importing") as show:
        return import_features(
            cache,
            info,
            clips,
            visual,
            audio,
            lambda now: show(now.done, now.total, f"{now.read_bytes / 1e9:.1f} GB read"),
        )


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
