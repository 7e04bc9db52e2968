"""Owns the published layouts of AudioMAE: the original `.pth` or timm's file or folder to our names.

Both name things as timm does; the original holds them under the key `model`, beside a decoder. The port to
timm of the self-supervised file holds a class token, positions, blocks and `norm`, no head. A fine-tuned file
has `fc_norm`, the trained norm of the pooled vector, in the place of `norm`, and a head.
"""

from __future__ import annotations

from pathlib import Path

from avcil.extract.encoders.weights import State, WeightFile, file_in, read_tensors

# The norm of the tokens is not used, see `AudioTransformer`.
OUTSIDE = ("decoder", "mask_token", "norm.", "head.")
NAMES = {"attn.qkv": "attention.qkv", "attn.proj": "attention.out", "mlp.fc1": "up", "mlp.fc2": "down"}


def read_audiomae(path: Path) -> WeightFile:
    """Read AudioMAE's encoder from a file, or from a folder as Hugging Face lays it out.

    Raises `EncoderError` for a file that is missing, unreadable or of another layout.
    """
    file = file_in(path) if path.is_dir() else path
    ours: State = {}
    for key, value in read_tensors(file).items():
        if key.startswith(OUTSIDE):
            continue
        if key == "patch_embed.proj.weight":
            ours["embed.weight"] = value.flatten(1)  # [D, 1, patch, patch]
        elif key == "patch_embed.proj.bias":
            ours["embed.bias"] = value
        elif key == "cls_token":
            ours["class_token"] = value.flatten()
        elif key == "pos_embed":
            ours["positions"] = value.flatten(0, 1)
        elif key.startswith("fc_norm."):
            ours[key.replace("fc_norm", "pool_norm")] = value
        elif key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            module, _, kind = rest.rpartition(".")
            ours[f"blocks.{number}.{NAMES.get(module, module)}.{kind}"] = value
        else:
            ours[key] = value
    words = f"AudioMAE folder {path.name}" if path.is_dir() else f"AudioMAE file {path.name}"
    return WeightFile(file, words, ours)


def has_pool_norm(file: WeightFile) -> bool:
    """Say whether a file brings the norm of the pooled vector (it was fine-tuned)."""
    return any(key.startswith("pool_norm.") for key in file.state)
