"""`avcil predict`: new videos to class scores."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from avcil.commands.console import err, out, printable, write
from avcil.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    from avcil.extract.media.contract import Backend, Track
    from avcil.predict.predictor import Prediction, Predictor


EncoderWeights = Annotated[
    str | None, typer.Option(help="Where the encoder's weights are.", show_default="as recorded")
]
OwnEncoder = Annotated[str | None, typer.Option(help="package.module:factory, for one of your own.")]


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train.")],
    videos: Annotated[list[Path], typer.Argument(help="Video files; of a folder, all videos below it.")],
    step: Annotated[
        int | None, typer.Option(min=1, help="Ask the network of this step.", show_default="last finished")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show of each video.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, all classes.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a CSV, a line a video and class.")] = False,
    visual_weights: EncoderWeights = None,
    audio_weights: EncoderWeights = None,
    visual_encoder: OwnEncoder = None,
    audio_encoder: OwnEncoder = None,
    decoder: Annotated[str, typer.Option(help="auto, pyav or decord.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Decoding processes; 0 decodes here.", show_default="cores")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Clips per encoder pass.", show_default="8, 32 on a GPU")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    allow_missing: Annotated[
        str | None, typer.Option(help="audio: take videos without sound as silent.")
    ] = None,
) -> None:
    """Classify new videos by what a run has learned.

    They are encoded as the run's cache was; the cache itself is not needed.
    A video that cannot be decoded is reported on standard error, and the
    others go on: the exit code is 0 if any was classified, else 2. Methods
    that compare distances give scores, not probabilities. Example:

    avcil predict run holiday.mp4 clips/ --top 3
    """
    from avcil.extract.options import ExtractOptions
    from avcil.predict.predictor import Predictor
    from avcil.predict.recorded import EncoderSource
    from avcil.report.progress import progress

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other; give one of them")
    options = ExtractOptions(
        decoder=cast("Backend", decoder),
        workers=workers,
        batch=batch,
        device=device,
        allow_missing=frozenset({cast("Track", allow_missing)} if allow_missing else ()),
    )
    predictor = Predictor.open(
        run,
        step=step,
        visual=EncoderSource(visual_encoder, visual_weights),
        audio=EncoderSource(audio_encoder, audio_weights),
        device=device,
    )
    note_precision(predictor)
    with progress(err, "predicting") as show:
        results = predictor.predict(videos, options, show)
    if as_json:
        typer.echo(_json(predictor, results))
    elif as_csv:
        write(_csv(results, top))
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


def _json(predictor: Predictor, results: Sequence[Prediction]) -> str:
    """Everything, in ASCII: a name may hold marks that turn a terminal's line around."""
    videos = [
        {"video": _text(one.video), "error": {"kind": one.error.kind, "detail": one.error.detail}}
        if one.error is not None
        else {"video": _text(one.video), _measure(one): one.scores}
        for one in results
    ]
    run = _text(predictor.run.path)
    return json.dumps({"run": run, "step": predictor.step + 1, "videos": videos}, indent=1)


def _csv(results: Sequence[Prediction], top: int) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["video", "rank", "label", "probability", "score", "error"])
    for one in results:
        if one.error is not None:
            table.writerow([_text(one.video), "", "", "", "", str(one.error)])
        for rank, (label, score) in enumerate(islice(one.scores.items(), top), start=1):
            values = [repr(score), ""] if one.are_probabilities else ["", repr(score)]
            table.writerow([_text(one.video), rank, label, *values, ""])
    return buffer.getvalue()


def _measure(one: Prediction) -> str:
    return "probabilities" if one.are_probabilities else "scores"
