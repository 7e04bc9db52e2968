"""`avcil attend`: where and when each step's network attends to a video, drawn and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avcil.commands.console import out
from avcil.commands.options import Decoder, Device, OwnEncoder, RecordedWeights
from avcil.commands.predict import note_precision
from avcil.files import write_text
from avcil.report.labels import shortened

NAME_WIDTH = 48  # characters of a video's name or a class in a line

if TYPE_CHECKING:
    from avcil.predict.attention_by_step import StepAttention


def attend(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train, audio-visual.")],
    video: Annotated[Path, typer.Argument(help="A video file.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the pictures and numbers.")],
    reduce: Annotated[
        Literal["class", "mean"],
        typer.Option(help="class: channels by what they add to the class; mean: all alike."),
    ] = "class",
    label: Annotated[
        str | None, typer.Option(help="The video's class.", show_default="the last step's prediction")
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="Up to this step.", show_default="last finished")
    ] = None,
    visual_weights: RecordedWeights = None,
    audio_weights: RecordedWeights = None,
    visual_encoder: OwnEncoder = None,
    audio_encoder: OwnEncoder = None,
    decoder: Decoder = "auto",
    device: Device = "auto",
) -> None:
    """Draw where and when each step attends to a video, and how that drifts.

    Attention has a map for every channel. Pictures show their mean, a channel
    weighted by what it adds to the score of the class in the step that learned
    it (gradient times input, where positive), so that rows differ by attention
    alone, or, with --reduce mean, all alike. Drift is KL(then || now),
    in nats, of a step's maps from those of the step that learned the class:
    per channel, mean over frames and channels. Example:

    avcil attend run clip.mp4 --out attention
    """
    from avcil.extract.options import ExtractOptions
    from avcil.extract.sources.clip import name_text
    from avcil.predict.predictor import Predictor
    from avcil.predict.recorded import EncoderSource
    from avcil.report.attention_figure import AttentionFigure, AttentionRow

    predictor = Predictor.open(
        run,
        step=step,
        visual=EncoderSource(visual_encoder, visual_weights),
        audio=EncoderSource(audio_encoder, audio_weights),
        device=device,
    )
    note_precision(predictor)
    encoded = predictor.encode(video, ExtractOptions(decoder=decoder, device=device))
    found = predictor.attention(encoded.tokens, reduce, label)
    lines = [_line(one) for one in found.steps]
    weighted = "weighted by what they add to that class" if reduce == "class" else "all alike"
    name = shortened(name_text(video.name), NAME_WIDTH)
    title = [
        f"{name}: attention for the class {shortened(found.label, NAME_WIDTH)}",
        f"mean of the channels, {weighted}",
    ]
    rows = [AttentionRow(line, one.maps) for line, one in zip(lines, found.steps, strict=True)]
    figure = AttentionFigure(title, encoded.prepared.frames, rows)
    folder.mkdir(parents=True, exist_ok=True)
    figure.write_png(folder / f"attention-{reduce}.png")
    figure.write_gif(folder / f"attention-{reduce}.gif")
    numbers = {
        "video": name_text(str(video)),
        "class": found.label,
        "reduce": reduce,
        "steps": [_numbers(one) for one in found.steps],
    }
    write_text(folder / f"attention-{reduce}.json", json.dumps(numbers, indent=1))
    for line in (*title, *lines):
        out.print(line, markup=False)
    out.print(f"pictures: {folder}/attention-{reduce}.png, .gif; numbers: .json", markup=False)


def _line(one: StepAttention) -> str:
    label = shortened(one.label, NAME_WIDTH)
    share = "" if one.probability is None else f" ({100 * one.probability:.0f} %)"
    predicted = f"step {one.step + 1} predicts {label}{share}"
    if one.drift is None:
        return f"{predicted}; the class is not learned yet"
    if one.learned_here:
        return f"{predicted}; the class is learned here"
    return f"{predicted}; drift {one.drift.spatial:.2e} in space, {one.drift.temporal:.2e} in time"


def _numbers(one: StepAttention) -> dict[str, object]:
    return {
        "step": one.step + 1,
        "predicted": one.label,
        "probability": one.probability,
        "drift_spatial": None if one.drift is None else one.drift.spatial,
        "drift_temporal": None if one.drift is None else one.drift.temporal,
        "spatial": one.maps.spatial.tolist(),
        "temporal": one.maps.temporal.tolist(),
    }
