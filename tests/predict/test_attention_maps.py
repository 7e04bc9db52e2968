"""Attention maps of one clip against slow, obvious sums."""

import math

import pytest
import torch

from avcil.predict.attention_maps import channel_contributions, channel_weights, drift, reduce_maps
from avcil.train.network.attention import Attended
from avcil.train.network.model import AudioVisualNetwork, NetworkOutput, NetworkShape

T, S, D, C = 3, 4, 6, 5


def network_and_output(seed: int) -> tuple[AudioVisualNetwork, NetworkOutput, Attended]:
    torch.manual_seed(seed)
    network = AudioVisualNetwork(NetworkShape("audio-visual", 7, D, C)).double()
    generator = torch.Generator().manual_seed(9)
    audio = torch.randn(1, 7, generator=generator, dtype=torch.float64)
    visual = torch.randn(1, T, S, D, generator=generator, dtype=torch.float64)
    return network, network(audio, visual), network.maps(audio, visual)


def test_contributions_are_gradient_times_input() -> None:
    network, output, _ = network_and_output(0)
    assert output.pooled is not None and output.audio is not None
    pooled = output.pooled.detach().requires_grad_()
    score = network.classifier(output.audio.detach() + network.visual_projection(pooled).relu())[0, 2]
    (gradient,) = torch.autograd.grad(score, pooled)
    expected = (gradient * pooled)[0].detach()
    assert torch.allclose(channel_contributions(network, output, 2), expected, atol=1e-12)


def test_maps_are_means_of_the_channels_that_speak_for_the_class() -> None:
    network, output, attended = network_and_output(0)
    positive = [max(0.0, one) for one in channel_contributions(network, output, 1).tolist()]
    maps = reduce_maps(attended, channel_weights(network, output, 1))
    for t in range(T):
        for s in range(S):
            shares = zip(positive, attended.spatial[0, t, s].tolist(), strict=True)
            assert maps.spatial[t, s].item() == pytest.approx(sum(w * x for w, x in shares) / sum(positive))
    assert torch.allclose(maps.spatial.sum(1), torch.ones(T, dtype=torch.float64))
    assert maps.temporal.sum().item() == pytest.approx(1)


def test_the_plain_mean_and_a_class_that_nothing_speaks_for() -> None:
    network, output, attended = network_and_output(0)
    plain = reduce_maps(attended, channel_weights(network, output, None))
    assert torch.allclose(plain.temporal, attended.temporal[0].mean(1))
    with torch.no_grad():
        network.classifier.weight[3] = 0
    assert torch.equal(channel_weights(network, output, 3), channel_weights(network, output, None))


def test_drift_is_the_mean_divergence_per_channel() -> None:
    (_, _, old), (_, _, new) = network_and_output(0), network_and_output(1)
    spatial, temporal = 0.0, 0.0
    for d in range(D):
        for t in range(T):
            p, q = old.temporal[0, t, d].item(), new.temporal[0, t, d].item()
            temporal += p * math.log(p / q) / D
            for s in range(S):
                p, q = old.spatial[0, t, s, d].item(), new.spatial[0, t, s, d].item()
                spatial += p * math.log(p / q) / (T * D)
    measured = drift(old, new)
    assert (measured.spatial, measured.temporal) == (pytest.approx(spatial), pytest.approx(temporal))
    assert spatial > 0 and drift(old, old).spatial == 0
