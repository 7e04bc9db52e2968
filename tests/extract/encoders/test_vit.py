"""The encoders' networks against slow, obvious definitions."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avcil.extract.encoders.vit import (
    AudioConfig,
    AudioTransformer,
    Block,
    BlockConfig,
    VideoTransformer,
    VisualConfig,
    sine_cosine,
    sine_cosine_2d,
)
from avcil.extract.encoders.weights import fill_random

SMALL = BlockConfig(width=24, depth=2, heads=3, mlp_width=40, norm_eps=1e-6)
VIDEO = VisualConfig("small", SMALL, image_size=16, patch=8, n_frames=4)
AUDIO = AudioConfig("small", SMALL, mel_frames=24, mel_bins=16, patch=8)


def noisy(module: nn.Module) -> nn.Module:
    """Random weights with nothing at zero or one, so that every parameter counts."""
    fill_random(module)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval().double()


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def slow_block(block: Block, x: Tensor) -> Tensor:
    """One clip [P, D]: every head and token by hand."""
    width, heads = x.shape[1], block.attention.heads
    normed = F.layer_norm(x, (width,), block.norm1.weight, block.norm1.bias, 1e-6)
    q, k, v = (normed @ block.attention.qkv.weight.T + block.attention.qkv.bias).split(width, dim=1)
    mixed = []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width / heads)
        mixed.append(scores.softmax(1) @ v[:, part])
    x = x + block.attention.out(torch.cat(mixed, 1))
    hidden = block.up(F.layer_norm(x, (width,), block.norm2.weight, block.norm2.bias, 1e-6))
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + block.down(gelu)


def test_a_block_is_its_definition() -> None:
    block = noisy(Block(SMALL))
    assert isinstance(block, Block)
    x = randn(2, 5, 24)
    expected = torch.stack([slow_block(block, clip) for clip in x])
    assert torch.allclose(block(x), expected, atol=1e-12)


@pytest.mark.parametrize("final_norm", [True, False])
def test_video_tokens_are_in_order_t_h_w(final_norm: bool) -> None:
    config = VisualConfig("small", SMALL, image_size=16, patch=8, n_frames=4, final_norm=final_norm)
    module = noisy(VideoTransformer(config))
    assert isinstance(module, VideoTransformer)
    pixels = randn(2, 4, 16, 16, 3)
    kernel = module.embed.weight.view(24, 3, 2, 8, 8)
    x = F.conv3d(pixels.permute(0, 4, 1, 2, 3), kernel, module.embed.bias, stride=(2, 8, 8))
    x = x.flatten(2).transpose(1, 2) + module.positions
    for block in module.blocks:
        x = block(x)
    tokens = module(pixels)
    assert tokens.shape == (2, *config.token_shape) == (2, 2, 4, 24)
    assert torch.allclose(tokens.flatten(1, 2), module.norm(x), atol=1e-12)


def test_the_audio_vector_is_the_normed_mean_over_patches() -> None:
    module = noisy(AudioTransformer(AUDIO))
    assert isinstance(module, AudioTransformer)
    mel = randn(2, 24, 16)
    x = F.conv2d(mel[:, None], module.embed.weight.view(24, 1, 8, 8), module.embed.bias, stride=8)
    x = torch.cat([module.class_token.expand(2, 1, -1), x.flatten(2).transpose(1, 2)], 1) + module.positions
    for block in module.blocks:
        x = block(x)
    mean = x[:, 1:].mean(1)
    expected = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    assert module(mel).shape == (2, 24)
    assert torch.allclose(module(mel), expected.float(), atol=1e-5)


def test_the_class_token_takes_part() -> None:
    module = noisy(AudioTransformer(AUDIO))
    assert isinstance(module, AudioTransformer)
    before = module(randn(1, 24, 16))
    with torch.no_grad():
        module.class_token.neg_()
    assert not torch.allclose(before, module(randn(1, 24, 16)), atol=1e-3)


def test_position_codes_by_hand() -> None:
    codes = sine_cosine(7, 6)
    for p in range(7):
        for i in range(3):
            angle = p / 10_000 ** (2 * i / 6)
            assert codes[p, 2 * i : 2 * i + 2].tolist() == pytest.approx(
                [math.sin(angle), math.cos(angle)], abs=1e-6
            )


def test_grid_codes_by_hand() -> None:
    codes = sine_cosine_2d((3, 2), 8)
    assert codes.shape == (7, 8) and (codes[0] == 0).all()
    row, column = 2, 1
    rates = [1.0, 1 / 100]
    by_hand = [f(place * rate) for place in (column, row) for f in (math.sin, math.cos) for rate in rates]
    assert codes[1 + row * 2 + column].tolist() == pytest.approx(by_hand, abs=1e-6)
