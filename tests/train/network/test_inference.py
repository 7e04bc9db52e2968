"""Forward passes over many clips."""

import torch

from avcil.train.network.inference import logits
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.tokens.batches import ResidentTokens


def test_a_clip_does_not_notice_its_neighbours() -> None:
    torch.manual_seed(0)
    network = AudioVisualNetwork(NetworkShape("audio-visual", 96, 96, 12))
    audio, visual = torch.randn(70, 96), torch.randn(70, 8, 16, 96)
    whole = logits(network, ResidentTokens(audio, visual))
    for start, end in ((0, 1), (3, 5), (1, 4), (60, 65), (0, 69)):
        part = ResidentTokens(audio[start:end], visual[start:end])
        assert torch.equal(logits(network, part), whole[start:end])
