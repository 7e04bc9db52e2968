"""Small weight files in the published layouts, for tests: random tensors under the published names."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from avcil.extract.encoders.vit import AudioConfig, BlockConfig, VisualConfig

SIZE = BlockConfig(width=12, depth=2, heads=3, mlp_width=20, norm_eps=1e-6)
VIDEO = VisualConfig("small", SIZE, image_size=16, patch=8, n_frames=4)
AUDIO = AudioConfig("small", SIZE, mel_frames=16, mel_bins=8, patch=8)
HF_CONFIG = {
    "model_type": "videomae",
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "image_size": 16,
    "patch_size": 8,
    "num_frames": 4,
    "tubelet_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "use_mean_pooling": False,
}


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def videomae_state() -> dict[str, Tensor]:
    """A pre-training checkpoint in the layout that `transformers` publishes."""
    state = {
        "mask_token": randn(1, 1, 4),
        "encoder_to_decoder.weight": randn(4, 12),
        "decoder.norm.weight": randn(4),
        "videomae.embeddings.patch_embeddings.projection.weight": randn(12, 3, 2, 8, 8),
        "videomae.embeddings.patch_embeddings.projection.bias": randn(12),
        "videomae.layernorm.weight": randn(12),
        "videomae.layernorm.bias": randn(12) + 1,
    }
    for i in range(2):
        at = f"videomae.encoder.layer.{i}."
        for name, rows, columns in (
            ("attention.attention.query", 12, 12),
            ("attention.attention.key", 12, 12),
            ("attention.attention.value", 12, 12),
            ("attention.output.dense", 12, 12),
            ("intermediate.dense", 20, 12),
            ("output.dense", 12, 20),
        ):
            state[f"{at}{name}.weight"] = randn(rows, columns) + i
            if "attention.attention" not in name:
                state[f"{at}{name}.bias"] = randn(rows) + i
        state |= {f"{at}attention.attention.{name}": randn(12) + i for name in ("q_bias", "v_bias")}
        for name in ("layernorm_before", "layernorm_after"):
            state |= {f"{at}{name}.{kind}": randn(12) + i for kind in ("weight", "bias")}
    return state


def audiomae_state() -> dict[str, Tensor]:
    """A pre-training checkpoint in timm's layout, with the decoder that AudioMAE leaves in it."""
    state = {
        "cls_token": randn(1, 1, 12),
        "pos_embed": randn(1, 3, 12),
        "patch_embed.proj.weight": randn(12, 1, 8, 8),
        "patch_embed.proj.bias": randn(12),
        "norm.weight": randn(12),
        "norm.bias": randn(12),
        "mask_token": randn(1, 1, 4),
        "decoder_embed.weight": randn(4, 12),
    }
    shapes = {"attn.qkv": (36, 12), "attn.proj": (12, 12), "mlp.fc1": (20, 12), "mlp.fc2": (12, 20)}
    for i in range(2):
        for name, (rows, columns) in shapes.items():
            state |= {
                f"blocks.{i}.{name}.weight": randn(rows, columns),
                f"blocks.{i}.{name}.bias": randn(rows),
            }
        for name in ("norm1", "norm2"):
            state |= {f"blocks.{i}.{name}.{kind}": randn(12) for kind in ("weight", "bias")}
    return state


def videomae_folder(folder: Path, state: dict[str, Tensor] | None = None, **config: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**HF_CONFIG, **config}))
    save_file(videomae_state() if state is None else state, folder / "model.safetensors")
    return str(folder)


def audiomae_file(path: Path, state: dict[str, Tensor]) -> str:
    torch.save({"model": state, "args": argparse.Namespace(epochs=32), "epoch": 31}, path)
    return str(path)
