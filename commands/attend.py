"""`avcil attend`: where and when each step's network looks in a video, drawn and measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from avcil.commands.console import out
from avcil.commands.predict import EncoderWeights, OwnEncoder, finished_step, note_precision
from avcil.errors import ConfigError, DecodeError, ManifestError
from avcil.report.labels import shortened

NAME_WIDTH = 48  # characters of a video's name or a class in a line

if TYPE_CHECKING:
    from torch import Tensor

    from avcil.cache import Tokens
    from avcil.extract.media.contract import Backend
    from avcil.extract.tokens import TokenEncoder
    from avcil.predict.attention_maps import Drift, ReducedMaps, Reduction
    from avcil.train.record.run_folder import RunFolder


@dataclass(frozen=True)
class StepAttention:
    """What one step's network did with the video.

    Attributes:
        step: from 0.
        label: the class it predicts.
        probability: of that class.
        maps: its attention, reduced.
        drift: from the step that learned the video's class; None before that.
        learned_here: this is that step.
    """

    step: int
    label: str
    probability: float
    maps: ReducedMaps
    drift: Drift | None
    learned_here: bool


@dataclass(frozen=True)
class VideoAttention:
    """What the steps did with one video: `label` is the class that drift and weights are about."""

    label: str
    steps: list[StepAttention]


def attend(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train, audio-visual.")],
    video: Annotated[Path, typer.Argument(help="A video file.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the pictures and numbers.")],
    reduce: Annotated[
        str, typer.Option(help="class: channels by what they add to the class; mean: all alike.")
    ] = "class",
    label: Annotated[
        str | None, typer.Option(help="The video's class.", show_default="the last step's prediction")
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="Up to this step.", show_default="last finished")
    ] = None,
    visual_weights: EncoderWeights = None,
    audio_weights: EncoderWeights = None,
    visual_encoder: OwnEncoder = None,
    audio_encoder: OwnEncoder = None,
    decoder: Annotated[str, typer.Option(help="auto, pyav or decord.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
) -> None:
    """Draw where and when each step looks in a video, and how that drifts.

    Attention has a map for every channel. Pictures show their mean, a channel
    weighted by what it adds to the score of the class in the step that learned
    it (gradient times input, where positive), so that rows differ by attention
    alone, or, with --reduce mean, all alike. Drift is KL(then || now),
    in nats, of a step's maps from those of the step that learned the class:
    per channel, mean over frames and channels. Example:

    avcil attend run clip.mp4 --out attention
    """
    from avcil.extract.in_memory import encode_clip
    from avcil.extract.options import ExtractOptions
    from avcil.extract.sources.clip import Clip, name_text
    from avcil.predict.attention_maps import Reduction
    from avcil.predict.recorded import EncoderSource, build_recorded_encoder
    from avcil.report.attention import AttentionFigure, AttentionRow
    from avcil.train.record.run_folder import RunFolder

    if reduce not in get_args(Reduction):
        raise ConfigError(f"--reduce is {reduce!r}; it must be one of {', '.join(get_args(Reduction))}")
    opened = RunFolder.open(run)
    last = finished_step(opened, step)
    options = ExtractOptions(decoder=cast("Backend", decoder), device=device)
    encoder = build_recorded_encoder(
        opened.token_info,
        EncoderSource(visual_encoder, visual_weights),
        EncoderSource(audio_encoder, audio_weights),
        device,
    )
    note_precision(opened, encoder)
    name = name_text(video.name)
    try:
        encoded = encode_clip(Clip(name, video, "unknown", "test"), encoder, options)
    except DecodeError as error:
        raise ManifestError(f"{video}: {error}") from error
    found = attention_by_step(opened, encoded.tokens, encoder, last, cast("Reduction", reduce), label)
    lines = [_line(one) for one in found.steps]
    weighted = "weighted by what they add to that class" if reduce == "class" else "all alike"
    title = [
        f"{shortened(name, NAME_WIDTH)}: attention for the class {shortened(found.label, NAME_WIDTH)}",
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
    (folder / f"attention-{reduce}.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    for line in (*title, *lines):
        out.print(line, markup=False)
    out.print(f"pictures: {folder}/attention-{reduce}.png, .gif; numbers: .json", markup=False)


def attention_by_step(
    run: RunFolder,
    tokens: Tokens,
    encoder: TokenEncoder,
    last: int,
    reduce: Reduction,
    label: str | None = None,
) -> VideoAttention:
    """The attention of every step up to `last` (from 0) on one clip (n = 1), and its drift.

    `label` is the clip's class, by default the one that step `last` predicts. Channels are weighted as the
    step that learned it does, in later steps too; an earlier step's own prediction weighs its own.

    Raises:
        ConfigError: the run has no attention or no linear classifier, or knows no class `label`.
    """
    import torch

    from avcil.predict.attention_maps import channel_weights, drift, reduce_maps

    device, classes = encoder.device, run.facts.classes
    networks = [run.network(step, device) for step in range(last + 1)]
    shape = networks[0].shape
    if shape.modality != "audio-visual" or not shape.attention or shape.head != "linear":
        raise ConfigError(
            f"{run.path}: its network has no audio-guided attention under a linear classifier; attend needs "
            "an audio-visual run of any method but afc-nme and afc-lsc"
        )
    known = classes[: networks[-1].shape.classes]
    if label is not None and label not in known:
        raise ConfigError(f"{run.path}: no class {label!r} up to step {last + 1}; it has {', '.join(known)}")
    dtype = networks[0].dtype
    audio, visual = (torch.from_numpy(part).to(device, dtype) for part in (tokens.audio, tokens.widened()))
    with torch.inference_mode():
        outputs = [network(audio, visual) for network in networks]
        maps = [network.maps(audio, visual) for network in networks]
    shares = [output.logits[0].softmax(0) for output in outputs]
    column = known.index(label) if label is not None else int(shares[-1].argmax())
    learned = next(step for step, network in enumerate(networks) if column < network.shape.classes)

    def weights(step: int) -> Tensor:
        """From the step that learned the class on they stay the same: rows then differ by attention alone."""
        at = min(step, learned)
        of = None if reduce == "mean" else column if at == learned else int(shares[at].argmax())
        return channel_weights(networks[at], outputs[at], of)

    steps = []
    for step, (seen, share) in enumerate(zip(maps, shares, strict=True)):
        predicted = int(share.argmax())
        steps.append(
            StepAttention(
                step=step,
                label=classes[predicted],
                probability=share[predicted].item(),
                maps=reduce_maps(seen, weights(step)),
                drift=drift(maps[learned], seen) if step >= learned else None,
                learned_here=step == learned,
            )
        )
    return VideoAttention(known[column], steps)


def _line(one: StepAttention) -> str:
    label = shortened(one.label, NAME_WIDTH)
    said = f"step {one.step + 1} predicts {label} ({100 * one.probability:.0f} %)"
    if one.drift is None:
        return f"{said}; the class is not learned yet"
    if one.learned_here:
        return f"{said}; the class is learned here"
    return f"{said}; drift {one.drift.spatial:.2e} in space, {one.drift.temporal:.2e} in time"


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
