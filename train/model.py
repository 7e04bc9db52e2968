"""Owns the trained network, fusion, attention and growing classifier, in one file; knows no losses.

Letters: B batch, T time, S space, D width, C classes seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avcil.train.attention import Attended, audio_guided_attention
from avcil.train.config import Modality
from avcil.train.heads import Head, HeadKind, grown, make_head


@dataclass(frozen=True)
class NetworkShape:
    """What decides the parameters.

    Attributes:
        modality: which tokens are looked at.
        audio_width, visual_width: D of the tokens.
        classes: C, number of classes seen.
        head: linear classifier or proxies.
        attention: sound guides where and when to look (audio-visual only); without it, tokens are averaged.
        frozen: number of classes whose proxies are frozen.
    """

    modality: Modality
    audio_width: int
    visual_width: int
    classes: int
    head: HeadKind = "linear"
    attention: bool = True
    frozen: int = 0


@dataclass(frozen=True)
class NetworkOutput:
    """One forward pass. What a modality lacks is None.

    Attributes:
        logits: [B, C] scores of the head.
        fused: [B, D] the feature the head sees.
        audio: fa [B, D] after the rectifier.
        visual: fv [B, D] after the rectifier.
        pooled: [B, D] visual tokens, averaged or summed under the attention.
        attended: both attention maps (audio-visual with attention only).
    """

    logits: Tensor
    fused: Tensor
    audio: Tensor | None
    visual: Tensor | None
    pooled: Tensor | None
    attended: Attended | None


class AudioVisualNetwork(nn.Module):
    """Fusion, attention and classifier on frozen tokens (AV-CIL, section 3.2).

    Both features have the visual width, so audio and visual tokens may differ in width.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.audio_width if shape.modality == "audio" else shape.visual_width
        if shape.modality != "visual":
            self.audio_projection = nn.Linear(shape.audio_width, width)
        if shape.modality != "audio":
            self.visual_projection = nn.Linear(shape.visual_width, width)
        if shape.modality == "audio-visual" and shape.attention:
            self.audio_attention = nn.Linear(shape.audio_width, width)
            self.visual_attention = nn.Linear(shape.visual_width, width)
        self.classifier: Head = make_head(shape.head, width, shape.classes, shape.frozen)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the parameters."""
        return next(self.parameters()).dtype

    def forward(self, audio: Tensor | None, visual: Tensor | None) -> NetworkOutput:
        """Classify clips.

        Args:
            audio: [B, D] audio vectors; not looked at by a visual network.
            visual: [B, T, S, D] visual tokens; not looked at by an audio network.
        """
        fa = fv = pooled = attended = None
        if self.shape.modality != "visual":
            assert audio is not None
            fa = self.audio_projection(audio).relu()
        if self.shape.modality != "audio":
            assert visual is not None
            if self.shape.modality == "audio-visual" and self.shape.attention:
                assert audio is not None
                gate = self.audio_attention(audio).tanh()
                projected = self.visual_attention(visual).tanh()
                attended = audio_guided_attention(projected, gate, visual)
                pooled = attended.pooled
            else:
                pooled = visual.mean(dim=(1, 2))
            fv = self.visual_projection(pooled).relu()
        features = [feature for feature in (fa, fv) if feature is not None]
        fused = features[0] if len(features) == 1 else features[0] + features[1]
        return NetworkOutput(self.classifier(fused), fused, fa, fv, pooled, attended)

    def grow(self, new: Head) -> None:
        """Append the classes of a step, as `new` has them; those that are there stay as they are."""
        self.classifier = grown(self.classifier, new)
        frozen = self.shape.classes if self.shape.head == "proxies" else 0
        self.shape = replace(self.shape, classes=self.classifier.out_features, frozen=frozen)
