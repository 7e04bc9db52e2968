"""Networks of the frozen encoders: VideoMAE- and AudioMAE-style transformers from one set of blocks.

Written from the papers (arXiv 2203.12602, 2207.06405) and the documentation of `transformers` and timm.
Letters: B batch, N frames, T time, S space, D width, P patches, F mel frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class BlockConfig:
    """Size of a transformer: width D, number of blocks and heads, width of the MLPs, epsilon of the norms."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    norm_eps: float


@dataclass(frozen=True)
class VisualConfig:
    """A video transformer: `tubelet` frames x `patch` x `patch` pixels a token."""

    name: str
    blocks: BlockConfig
    image_size: int = 224
    patch: int = 16
    n_frames: int = 16
    tubelet: int = 2
    final_norm: bool = True

    @property
    def token_shape(self) -> tuple[int, int, int]:
        """Shape T, S, D of one clip's tokens."""
        return self.n_frames // self.tubelet, (self.image_size // self.patch) ** 2, self.blocks.width


@dataclass(frozen=True)
class AudioConfig:
    """A spectrogram transformer: `patch` frames x `patch` mel bins a token, one vector a clip."""

    name: str
    blocks: BlockConfig
    mel_frames: int = 1024
    mel_bins: int = 128
    patch: int = 16

    @property
    def token_shape(self) -> tuple[int]:
        """Shape (D,) of one clip's vector."""
        return (self.blocks.width,)


class Attention(nn.Module):
    """Multi-head self-attention [B, P, D] -> [B, P, D]; a bias that a format lacks (VideoMAE: keys) is 0."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all tokens."""
        q, k, v = rearrange(self.qkv(x), "b p (three h d) -> three b h p d", three=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(rearrange(mixed, "b h p d -> b p (h d)"))
        return out


class Block(nn.Module):
    """One pre-norm transformer block [B, P, D] -> [B, P, D]."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.up = nn.Linear(config.width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then transform each token."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class VideoTransformer(nn.Module):
    """VideoMAE's encoder: normalised pixels [B, N, H, W, 3] -> tokens [B, T, S, D], order (t, h, w)."""

    positions: Tensor

    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.config = config
        n_time, n_space, width = config.token_shape
        self.embed = nn.Linear(3 * config.tubelet * config.patch**2, width)
        self.register_buffer("positions", sine_cosine(n_time * n_space, width), persistent=False)
        self.blocks = nn.ModuleList(Block(config.blocks) for _ in range(config.blocks.depth))
        self.norm = nn.LayerNorm(width, eps=config.blocks.norm_eps) if config.final_norm else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode a batch of clips."""
        sizes = {"u": self.config.tubelet, "p": self.config.patch, "q": self.config.patch}
        # A Conv3d whose stride is its kernel is a linear map of tubelets; the inner order is its weight's.
        tubelets = rearrange(pixels, "b (t u) (h p) (w q) c -> b (t h w) (c u p q)", **sizes)
        x = self.embed(tubelets) + self.positions
        for block in self.blocks:
            x = block(x)
        tokens: Tensor = rearrange(self.norm(x), "b (t s) d -> b t s d", t=self.config.token_shape[0])
        return tokens


class AudioTransformer(nn.Module):
    """AudioMAE's encoder: log-mel [B, F, mel bins] -> one vector [B, D]: the mean over patches, normed.

    The class token takes part in the attention and not in the mean. The last norm (eps 1e-6) has weight and
    bias with `pool_norm` only: fine-tuned files bring them as `fc_norm`, the self-supervised one does not.
    """

    positions: Tensor

    def __init__(self, config: AudioConfig, *, pool_norm: bool = False) -> None:
        super().__init__()
        self.config = config
        width = config.blocks.width
        grid = (config.mel_frames // config.patch, config.mel_bins // config.patch)
        self.embed = nn.Linear(config.patch**2, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", sine_cosine_2d(grid, width))  # [1 + P, D], in published files too
        self.blocks = nn.ModuleList(Block(config.blocks) for _ in range(config.blocks.depth))
        self.pool_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=pool_norm)

    def forward(self, mel: Tensor) -> Tensor:
        """Encode a batch of spectrograms."""
        patch = self.config.patch
        patches = rearrange(mel, "b (f p) (m q) -> b (f m) (p q)", p=patch, q=patch)
        x = self.embed(patches) + self.positions[1:]
        first = (self.class_token + self.positions[0]).expand(len(x), 1, -1)
        x = torch.cat([first.to(x.dtype), x], dim=1)
        for block in self.blocks:
            x = block(x)
        vector: Tensor = self.pool_norm(x[:, 1:].float().mean(1))
        return vector


def sine_cosine(n: int, width: int) -> Tensor:
    """Position codes float32 [n, width] of "Attention is all you need" (arXiv 1706.03762, 3.5), interleaved.

    code[p, 2i] = sin(p / 10000^(2i/width)), code[p, 2i+1] = cos of the same, computed in float64; VideoMAE
    numbers its tokens p in order (t, h, w).
    """
    angles = _angles(torch.arange(n), width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def sine_cosine_2d(grid: tuple[int, int], width: int) -> Tensor:
    """Codes [1 + rows * columns, width] of a grid in row-major order; the first, for the class token, is 0.

    The first half of the width codes the column, the second the row, each as all sines, then all cosines,
    with frequencies 10000^(-i / (width / 4)).
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    halves = []
    for positions in (columns, rows):
        angles = _angles(positions.flatten(), width // 2)
        halves += [angles.sin(), angles.cos()]
    codes = torch.cat(halves, dim=1).float()
    return torch.cat([torch.zeros(1, width), codes])


def _angles(positions: Tensor, width: int) -> Tensor:
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return positions.double()[:, None] * frequencies
