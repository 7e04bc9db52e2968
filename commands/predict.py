"""`avcil predict`: new videos to class probabilities; `predict_videos` is the same from Python."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from avcil.commands.console import err, out, printable, write
from avcil.errors import ConfigError, DecodeError, ManifestError, RunError

if TYPE_CHECKING:
    from avcil.cache import Tokens
    from avcil.extract.media.contract import Backend, Track
    from avcil.extract.options import ExtractOptions
    from avcil.extract.sources.clip import Clip
    from avcil.extract.tokens import TokenEncoder
    from avcil.train.network.inference import Classifier
    from avcil.train.record.run_folder import RunFolder


EncoderWeights = Annotated[
    str | None, typer.Option(help="Where the encoder's weights are.", show_default="as recorded")
]
OwnEncoder = Annotated[str | None, typer.Option(help="package.module:factory, for one of your own.")]


@dataclass(frozen=True)
class Prediction:
    """What a run says of one video: probabilities by label, the largest first, or why there are none."""

    video: Path
    probabilities: dict[str, float]
    error: DecodeError | None = None


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
    others go on: the exit code is 0 if any was classified, else 2. Example:

    avcil predict run holiday.mp4 clips/ --top 3
    """
    from avcil.extract.options import ExtractOptions
    from avcil.predict.recorded import EncoderSource, build_recorded_encoder
    from avcil.report.progress import progress
    from avcil.train.record.run_folder import RunFolder

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other; give one of them")
    folder = RunFolder.open(run)
    chosen = finished_step(folder, step)
    paths = list_videos(videos)
    options = ExtractOptions(
        decoder=cast("Backend", decoder),
        workers=workers,
        batch=batch,
        device=device,
        allow_missing=frozenset({cast("Track", allow_missing)} if allow_missing else ()),
    )
    encoder = build_recorded_encoder(
        folder.token_info,
        EncoderSource(visual_encoder, visual_weights),
        EncoderSource(audio_encoder, audio_weights),
        device,
    )
    note_precision(folder, encoder)
    with progress(err, "predicting") as show:
        results = predict_videos(
            folder, paths, encoder, options, step=chosen, on_progress=lambda done: show(done, len(paths))
        )
    if as_json:
        typer.echo(_json(folder, chosen, results))
    elif as_csv:
        write(_csv(results, top))
    for result in results:
        name = _text(result.video)
        if result.error is not None:
            err.print(printable(f"failed: {name}: {result.error}"), markup=False)
        elif not (as_json or as_csv):
            shown = ", ".join(
                f"{label} {100 * p:.1f} %" for label, p in list(result.probabilities.items())[:top]
            )
            out.print(printable(f"{name}: {shown}"), markup=False)
    if all(result.error is not None for result in results):
        raise ManifestError(f"none of the {len(results)} videos could be classified")


def predict_videos(
    run: RunFolder,
    videos: Sequence[Path],
    encoder: TokenEncoder,
    options: ExtractOptions,
    *,
    step: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Prediction]:
    """Classify videos, in their order; one that fails is a value and stops no other.

    Tokens pass through the number type of the run's cache and each clip is classified by itself, so a score
    is that of the same clip in the cache, whatever other videos are given.

    Args:
        run: a run with at least `step` + 1 finished steps.
        videos: files.
        encoder: of `build_recorded_encoder` for `run.token_info`.
        options: how to decode: decoder, workers, batch, deadline_s, allow_missing.
        step: whose network is asked, from 0.
        on_progress: called with the number of videos done.
    """
    from avcil.extract.in_memory import encode_clips
    from avcil.extract.sources.clip import Clip

    classifier = run.classifier(step, encoder.device)
    results = [Prediction(video, {}) for video in videos]

    def on_clip(clip: Clip, tokens: Tokens | DecodeError) -> None:
        number = int(clip.id)
        if isinstance(tokens, DecodeError):
            results[number] = Prediction(videos[number], {}, tokens)
        else:
            shares = class_probabilities(run.facts.classes, classifier, tokens)
            results[number] = Prediction(videos[number], shares)

    clips = [Clip(str(number), video, "unknown", "test") for number, video in enumerate(videos)]
    encode_clips(clips, encoder, options, on_clip, on_progress)
    return results


def class_probabilities(classes: Sequence[str], classifier: Classifier, tokens: Tokens) -> dict[str, float]:
    """Softmax of the method's scores of one clip (n = 1), by label, the largest first."""
    import torch

    from avcil.train.tokens.residency import ResidentTokens

    device = next(classifier.network.parameters()).device
    audio, visual = (torch.from_numpy(part).to(device) for part in (tokens.audio, tokens.widened()))
    shares = classifier.scores(ResidentTokens(audio=audio, visual=visual))[0].softmax(0).tolist()
    return dict(sorted(zip(classes[: len(shares)], shares, strict=True), key=lambda pair: -pair[1]))


def finished_step(run: RunFolder, asked: int | None) -> int:
    """The step asked for (from 1), by default the last finished one, as an index from 0; or `RunError`."""
    done = run.steps_done
    if done == 0:
        raise RunError(f"{run.path}: no step is finished yet; give the same avcil train command again")
    if asked is not None and asked > done:
        raise RunError(f"{run.path}: {done} steps are finished, there is no step {asked}; give 1 to {done}")
    return (asked or done) - 1


def list_videos(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the videos below them; raises `ManifestError` for a folder without."""
    from avcil.extract.sources.find_videos import media_files_below

    videos: list[Path] = []
    for path in paths:
        found = list(media_files_below(path)) if path.is_dir() else [path]
        if not found:
            raise ManifestError(f"{path}: no videos below this folder")
        videos += found
    return videos


def note_precision(run: RunFolder, encoder: TokenEncoder) -> None:
    """Say on standard error where the encoders' arithmetic here is not that of the run's tokens."""
    then, now = run.token_info.precision, encoder.info.precision
    if then and then != now:
        err.print(f"note: the run's tokens were made in {then}, here it is {now}: the last digits may differ")


def _text(video: Path) -> str:
    from avcil.extract.sources.clip import name_text

    return name_text(str(video))


def _json(run: RunFolder, step: int, results: Sequence[Prediction]) -> str:
    """Everything, in ASCII: a name may hold marks that turn a terminal's line around."""
    videos = [
        {"video": _text(one.video), "error": {"kind": one.error.kind, "detail": one.error.detail}}
        if one.error is not None
        else {"video": _text(one.video), "probabilities": one.probabilities}
        for one in results
    ]
    return json.dumps({"run": _text(run.path), "step": step + 1, "videos": videos}, indent=1)


def _csv(results: Sequence[Prediction], top: int) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["video", "rank", "label", "probability", "error"])
    for one in results:
        if one.error is not None:
            table.writerow([_text(one.video), "", "", "", str(one.error)])
        for rank, (label, probability) in enumerate(islice(one.probabilities.items(), top), start=1):
            table.writerow([_text(one.video), rank, label, repr(probability), ""])
    return buffer.getvalue()
