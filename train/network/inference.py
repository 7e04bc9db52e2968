"""Forward passes without gradients over any number of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.network.fused_attention import TeacherAttention
from avcil.train.network.model import AudioVisualNetwork, NetworkOutput
from avcil.train.tokens.batches import StepTokens

CLIPS_PER_PASS = 64  # streamed at full size, two passes are 0.3 GB of float16 tokens
CLIPS_FROZEN_AT_ONCE = 16
# Matrix products take rows in fours and the rest in another way, which rounds otherwise (measured on CPUs).
# In passes of a multiple of this, a clip's numbers do not depend on how many others there are.
SAME_ROUNDING = 8


@torch.no_grad()
def outputs(
    network: AudioVisualNetwork, tokens: StepTokens, multiple_of: int = 1
) -> Iterator[tuple[Tensor, NetworkOutput]]:
    """The positions [B] of some clips at a time, all of them in order, and the network's output on those.

    With `multiple_of`, the last clip is repeated at the end to fill the last pass up.
    """
    rows = torch.arange(len(tokens))
    filler = rows[-1:].expand(-len(rows) % multiple_of)
    orders = torch.split(torch.cat([rows, filler]), CLIPS_PER_PASS)
    for order, chunk in zip(orders, tokens.batches(orders, network.dtype), strict=True):
        yield order, network(chunk.audio, chunk.visual)


def predict(
    network: AudioVisualNetwork, tokens: StepTokens, pick: Callable[[NetworkOutput], Tensor]
) -> Tensor:
    """What `pick` takes from the output on B clips, [B, ...], for all clips, [n, ...]: each one's own."""
    with torch.no_grad():
        filled = torch.cat([pick(output) for _, output in outputs(network, tokens, SAME_ROUNDING)])
        return filled[: len(tokens)]


@torch.no_grad()
def teacher_attention(network: AudioVisualNetwork, tokens: StepTokens) -> TeacherAttention:
    """The network's attention to all clips, for a student to be compared with; for networks that attend."""

    def parts() -> Iterator[TeacherAttention]:
        orders = torch.split(torch.arange(len(tokens)), CLIPS_FROZEN_AT_ONCE)
        for chunk in tokens.batches(orders, network.dtype):
            assert chunk.audio is not None and chunk.visual is not None
            yield network.as_teacher(chunk.audio, chunk.visual, len(tokens))

    return TeacherAttention.joined(parts(), len(tokens))


def logits(network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
    """The head's scores [n, C] of all clips, over all classes the network has seen."""
    return predict(network, tokens, lambda output: output.logits)


def unit_features(network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
    """The fused features [n, D] of all clips, scaled to unit length."""
    return predict(network, tokens, lambda output: F.normalize(output.fused, dim=1))
