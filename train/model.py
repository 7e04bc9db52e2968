"""Owns the trained network, fusion, attention and growing classifier, in one file; knows no losses.

Letters: B batch, T time, S space, D width, C classes seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avcil.train.attention import Attended, audio_guided_attention
from avcil.train.config import Modality


@dataclass(frozen=True)
class NetworkShape:
    """What decides the parameters: which modalities, the token widths and the number of classes."""

    modality: Modality
    audio_width: int
    visual_width: int
    classes: int


@dataclass(frozen=True)
class NetworkOutput:
    """One forward pass. What a modality lacks is None.

    Attributes:
        logits: [B, C].
        fused: [B, D] the feature the classifier sees.
        audio: fa [B, D] after the rectifier.
        visual: fv [B, D] after the rectifier.
        attended: pooled visual tokens and both attention maps (audio-visual only).
    """

    logits: Tensor
    fused: Tensor
    audio: Tensor | None
    visual: Tensor | None
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
        if shape.modality == "audio-visual":
            self.audio_attention = nn.Linear(shape.audio_width, width)
            self.visual_attention = nn.Linear(shape.visual_width, width)
        self.classifier = nn.Linear(width, shape.classes)

    def forward(self, audio: Tensor | None, visual: Tensor | None) -> NetworkOutput:
        """Classify clips.

        Args:
            audio: [B, D] audio vectors; not looked at by a visual network.
            visual: [B, T, S, D] visual tokens; not looked at by an audio network.
        """
        fa = fv = attended = None
        if self.shape.modality != "visual":
            assert audio is not None
            fa = self.audio_projection(audio).relu()
        if self.shape.modality == "visual":
            assert visual is not None
            fv = self.visual_projection(visual.mean(dim=(1, 2))).relu()
        elif self.shape.modality == "audio-visual":
            assert audio is not None and visual is not None
            gate = self.audio_attention(audio).tanh()
            projected = self.visual_attention(visual).tanh()
            attended = audio_guided_attention(projected, gate, visual)
            fv = self.visual_projection(attended.pooled).relu()
        features = [feature for feature in (fa, fv) if feature is not None]
        fused = features[0] if len(features) == 1 else features[0] + features[1]
        return NetworkOutput(self.classifier(fused), fused, fa, fv, attended)

    @torch.no_grad()
    def grow(self, new_rows: nn.Linear) -> None:
        """Append the classes of a step: old rows and biases are kept, new ones come from `new_rows`."""
        old = self.classifier
        grown = nn.Linear(
            old.in_features,
            old.out_features + new_rows.out_features,
            device=old.weight.device,
            dtype=old.weight.dtype,
        )
        grown.weight.copy_(torch.cat([old.weight, new_rows.weight.to(old.weight)]))
        grown.bias.copy_(torch.cat([old.bias, new_rows.bias.to(old.bias)]))
        self.classifier = grown
        self.shape = NetworkShape(
            self.shape.modality, self.shape.audio_width, self.shape.visual_width, grown.out_features
        )
