"""The attention of every step of a run to one clip: its maps, its prediction, and how far it has drifted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avcil.cache import Tokens
from avcil.errors import ConfigError
from avcil.predict.attention_maps import (
    Drift,
    ReducedMaps,
    Reduction,
    channel_weights,
    drift,
    reduce_maps,
)
from avcil.train.network.layers import LinearLayer
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.tokens.batches import ResidentTokens


@dataclass(frozen=True)
class StepAttention:
    """What one step's network did with a clip.

    Attributes:
        step: from 0.
        label: the class it predicts, and its `probability`; None where scores are not probabilities.
        maps: where and when it attended.
        drift: of its maps from those of the step that learned the class; None before that step.
        learned_here: it is the step that learned the class.
    """

    step: int
    label: str
    probability: float | None
    maps: ReducedMaps
    drift: Drift | None
    learned_here: bool


@dataclass(frozen=True)
class VideoAttention:
    """What the steps did with one clip; `label` is the class that drift and weights are about."""

    label: str
    steps: list[StepAttention]


def attention_by_step(
    run: Run,
    tokens: Tokens,
    device: torch.device,
    last: int,
    reduction: Reduction,
    label: str | None = None,
) -> VideoAttention:
    """The attention of every step up to `last` (from 0) to one clip (n = 1), and its drift.

    `label` is the clip's class, by default the one that step `last` predicts. Channels are weighted as in the
    step that learned it, in later steps too, so that rows differ by attention alone; an earlier step weights
    them for its own prediction.

    Raises:
        ConfigError: the run has no attention or no linear classifier, or knows no class `label`.
    """
    kept = run.token_info.visual_reduction
    if kept is not None and kept.statistics is not None:
        raise ConfigError(
            f"{run.path}: it was trained on the {', '.join(kept.names)} of visual tokens, which have no "
            "places and moments; attend needs a run on the tokens themselves"
        )
    classes = run.facts.classes
    classifiers = [load_classifier(run, step, device) for step in range(last + 1)]
    networks = [one.network for one in classifiers]
    if not networks[0].attends or not isinstance(networks[0].classifier, LinearLayer):
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
        clip = ResidentTokens(audio=audio, visual=visual)
        shares = [one.scores(clip)[0].softmax(0) for one in classifiers]
    column = known.index(label) if label is not None else int(shares[-1].argmax())
    learned = next(step for step, network in enumerate(networks) if column < network.shape.classes)

    def weights(step: int) -> Tensor:
        at = min(step, learned)
        of = None if reduction == "mean" else column if at == learned else int(shares[at].argmax())
        return channel_weights(networks[at], outputs[at], of)

    steps = []
    for step, (attended, share) in enumerate(zip(maps, shares, strict=True)):
        predicted = int(share.argmax())
        steps.append(
            StepAttention(
                step=step,
                label=classes[predicted],
                probability=share[predicted].item() if classifiers[step].log_probabilities else None,
                maps=reduce_maps(attended, weights(step)),
                drift=drift(maps[learned], attended) if step >= learned else None,
                learned_here=step == learned,
            )
        )
    return VideoAttention(known[column], steps)
