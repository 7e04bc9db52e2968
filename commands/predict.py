"""`avcil predict`: new videos to class scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import err, exclusive, out, printable, write, write_json
from avcil.commands.options import (
    AllowMissing,
    AsJson,
    Batch,
    Decoder,
    Device,
    OwnEncoder,
    RecordedWeights,
    Workers,
)
from avcil.errors import ManifestError

if TYPE_CHECKING:
    from avcil.predict.predictor import Prediction, Predictor
    from avcil.report.table import Table


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train.")],
    videos: Annotated[list[Path], typer.Argument(help="Video files; of a folder, all videos below it.")],
    step: Annotated[
        int | None, typer.Option(min=1, help="Ask the network of this step.", show_default="last finished")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show of each video.")] = 5,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a CSV, a line a video and class.")] = False,
    visual_weights: RecordedWeights = None,
    audio_weights: RecordedWeights = None,
    visual_encoder: OwnEncoder = None,
    audio_encoder: OwnEncoder = None,
    decoder: Decoder = "auto",
    workers: Workers = None,
    batch: Batch = None,
    device: Device = "auto",
    allow_missing: AllowMissing = None,
) -> None:
    """Classify new videos by what a run has learned.

    They are encoded as the run's cache was; the cache itself is not needed.
    A video that cannot be decoded is reported on standard error, and the
    others go on: the exit code is 0 if any was classified, else 2. Methods
    that compare distances give scores, not probabilities. Example:

    avcil predict run holiday.mp4 clips/ --top 3
    """
    from avcil.extract.options import ExtractOptions
    from avcil.predict.predictor import Predictor, list_videos
    from avcil.predict.recorded import EncoderSource
    from avcil.report.progress import progress

    exclusive({"json": as_json, "csv": as_csv})
    options = ExtractOptions(
        decoder=decoder,
        workers=workers,
        batch=batch,
        device=device,
        allow_missing=frozenset({allow_missing} if allow_missing else ()),
    )
    predictor = Predictor.open(
        run,
        step=step,
        visual=EncoderSource(visual_encoder, visual_weights),
        audio=EncoderSource(audio_encoder, audio_weights),
        device=device,
    )
    note_precision(predictor)
    found = list_videos(videos)
    for note in found.notes:
        err.print(printable(f"note: {note}"), markup=False)
    with progress(err, "predicting") as show:
        results = predictor.predict(found.paths, options, show)
    if as_json:
        write_json(_content(predictor, results))
    elif as_csv:
        write(_table(results, top).comma_separated())
    for result in results:
        name = _text(result.video)
        if result.error is not None:
            err.print(printable(f"failed: {name}: {result.error}"), markup=False)
        elif not (as_json or as_csv):
            scores = islice(result.scores.items(), top)
            shown = ", ".join(_shown(label, score, result.are_probabilities) for label, score in scores)
            out.print(printable(f"{name}: {shown}"), markup=False)
    if all(result.error is not None for result in results):
        raise ManifestError(f"none of the {len(results)} videos could be classified")


def note_precision(predictor: Predictor) -> None:
    """Say on standard error where the encoders' arithmetic here is not that of the run's tokens."""
    if (now := predictor.other_precision) is not None:
        then = predictor.run.token_info.precision
        err.print(f"note: the run's tokens were made in {then}, here it is {now}: the last digits may differ")


def _shown(label: str, score: float, is_probability: bool) -> str:
    return f"{label} {100 * score:.1f} %" if is_probability else f"{label} (score {score:.3f})"


def _text(video: Path) -> str:
    from avcil.extract.sources.clip import name_text

    return name_text(str(video))


def _content(predictor: Predictor, results: Sequence[Prediction]) -> dict[str, object]:
    videos = [
        {"video": _text(one.video), "error": {"kind": one.error.kind, "detail": one.error.detail}}
        if one.error is not None
        else {"video": _text(one.video), _measure(one): one.scores}
        for one in results
    ]
    run = _text(predictor.run.path)
    return {"run": run, "step": predictor.step + 1, "videos": videos}


def _table(results: Sequence[Prediction], top: int) -> Table:
    """The best classes of every video, a row each, or why it has none."""
    from avcil.report.table import Cell, Column, Table

    rows: list[list[Cell]] = []
    for one in results:
        if one.error is not None:
            rows.append([_text(one.video), None, None, None, None, str(one.error)])
        for rank, (label, score) in enumerate(islice(one.scores.items(), top), start=1):
            values = [score, None] if one.are_probabilities else [None, score]
            rows.append([_text(one.video), rank, label, *values, None])
    names = ("video", "rank", "label", "probability", "score", "error")
    return Table("", list(map(Column, names)), rows)


def _measure(one: Prediction) -> str:
    return "probabilities" if one.are_probabilities else "scores"
