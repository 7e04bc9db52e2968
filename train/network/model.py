"""The trained network in one file: fusion, attention and a growing output layer.

Letters: B batch, T time, S space, D width, C classes seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from avcil.train.network.attention import Attended, audio_guided_attention
from avcil.train.network.fused_attention import FusedAttended, FusedAttention, TeacherAttention
from avcil.train.network.layers import LinearLayer, OutputLayer
from avcil.train.tokens.batches import VisualTokens

if TYPE_CHECKING:
    from avcil.train.config import Modality


@dataclass(frozen=True)
class NetworkShape:
    """What decides the parameters.

    Attributes:
        modality: which tokens are used.
        audio_width, visual_width: D of the tokens.
        classes: C, number of classes seen.
        attention: sound weighs places and moments (audio-visual only); without it, tokens are averaged.
        old_classes: how many of the classes an output layer has from earlier steps.
    """

    modality: Modality
    audio_width: int
    visual_width: int
    classes: int
    attention: bool = True
    old_classes: int = 0


@dataclass(frozen=True)
class NetworkOutput:
    """One forward pass. What a modality lacks is None.

    Attributes:
        logits: [B, C] scores of the output layer.
        fused: [B, D] the feature that it takes.
        audio: fa [B, D] after the rectifier.
        visual: fv [B, D] after the rectifier.
        pooled: [B, D] visual tokens, averaged or summed under the attention.
        attended: what the attention made of them (audio-visual with attention only).
    """

    logits: Tensor
    fused: Tensor
    audio: Tensor | None
    visual: Tensor | None
    pooled: Tensor | None
    attended: FusedAttended | None


class AudioVisualNetwork(nn.Module):
    """Fusion, attention and output layer on frozen tokens (AV-CIL, section 3.2).

    Without a `layer` it has no parameters: the network of a method that trains none. Both features have the
    visual width, so audio and visual tokens may differ in width.

    Attributes:
        shape: what decided the parameters.
        fused: how the attention is computed: the precision of its products, compiled or not. Not a parameter;
            from the beginning it has the parameters' precision.
    """

    def __init__(self, shape: NetworkShape, layer: type[OutputLayer] | None = LinearLayer) -> None:
        super().__init__()
        self.shape = shape
        self.fused = FusedAttention()
        if layer is None:
            return
        width = shape.audio_width if shape.modality == "audio" else shape.visual_width
        if shape.modality != "visual":
            self.audio_projection = nn.Linear(shape.audio_width, width)
        if shape.modality != "audio":
            self.visual_projection = nn.Linear(shape.visual_width, width)
        if shape.modality == "audio-visual" and shape.attention:
            self.audio_attention = nn.Linear(shape.audio_width, width)
            self.visual_attention = nn.Linear(shape.visual_width, width)
        self.classifier: OutputLayer = layer(width, shape.classes, shape.old_classes)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the parameters."""
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    @property
    def attends(self) -> bool:
        """Whether sound weighs places and moments."""
        return hasattr(self, "visual_attention")

    def forward(
        self,
        audio: Tensor | None,
        visual: VisualTokens | Tensor | None,
        teacher: TeacherAttention | None = None,
    ) -> NetworkOutput:
        """Classify clips.

        Args:
            audio: [B, D] audio vectors; not used by a visual network.
            visual: [B, T, S, D] visual tokens; not used by an audio network.
            teacher: the old network's attention to the last n_e clips, which the attention is compared with.
        """
        fa = fv = pooled = attended = None
        if self.shape.modality != "visual":
            assert audio is not None
            fa = self.audio_projection(audio).relu()
        if self.shape.modality != "audio":
            tokens = VisualTokens.of(visual) if isinstance(visual, Tensor) else visual
            assert tokens is not None
            if self.attends:
                assert audio is not None
                layer = self.visual_attention
                attended = self.fused(tokens, layer.weight, layer.bias, self._gate(audio), teacher)
                pooled = attended.pooled
            else:
                # As means are kept that were computed once: in float64.
                pooled = tokens.widened(self.dtype).mean(dim=(1, 2), dtype=torch.float64).to(self.dtype)
            fv = self.visual_projection(pooled).relu()
        features = [feature for feature in (fa, fv) if feature is not None]
        fused = features[0] if len(features) == 1 else features[0] + features[1]
        return NetworkOutput(self.classifier(fused), fused, fa, fv, pooled, attended)

    def as_teacher(self, audio: Tensor, visual: VisualTokens, clips: int) -> TeacherAttention:
        """The attention to some of `clips` clips in all, as a teacher's; for networks that attend."""
        layer = self.visual_attention
        return self.fused.as_teacher(visual, layer.weight, layer.bias, self._gate(audio), clips=clips)

    def maps(self, audio: Tensor, visual: Tensor) -> Attended:
        """Both attention maps of clips [B, D] and [B, T, S, D], for people; for networks that attend."""
        projected = self.visual_attention(visual).tanh()
        return audio_guided_attention(projected, self._gate(audio), visual)

    def _gate(self, audio: Tensor) -> Tensor:
        return self.audio_attention(audio).tanh()

    def grow(self, new: OutputLayer) -> None:
        """Append the classes of a step, as `new` has them; those that are there stay as they are."""
        old = self.shape.classes
        self.classifier = self.classifier.grown(new)
        self.shape = replace(self.shape, classes=self.classifier.out_features, old_classes=old)
