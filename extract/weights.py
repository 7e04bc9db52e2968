"""Owns weight files: published layouts in, parameters of our encoders out; knows no recipe and no clip.

Nothing is unpickled beyond tensors and plain containers (`weights_only=True`). Every key of a file is either
used, known not to belong to the encoder, or an error that names it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avcil.errors import EncoderError

State = dict[str, Tensor]

# Keys that a published file holds beside the encoder.
VIDEOMAE_OUTSIDE = ("decoder.", "encoder_to_decoder.", "mask_token", "classifier.", "fc_norm.")
VIDEOMAE_POSITIONS = "embeddings.position_embeddings"  # fixed, recomputed here; stored by some versions only
AUDIOMAE_OUTSIDE = (
    "decoder",
    "mask_token",
    "norm.",
    "head.",
)  # its `norm` is not used, see `AudioTransformer`


@dataclass(frozen=True)
class WeightFile:
    """Parameters under our modules' names, as read from `path`, and what kind of file it is in words."""

    path: Path
    words: str
    state: State


@dataclass(frozen=True)
class VideoMaeFolder(WeightFile):
    """A Hugging Face VideoMAE folder: its weights and its `config.json`."""

    config: Mapping[str, Any]

    def require(self, wanted: Mapping[str, Any], name: str) -> None:
        """Raise `EncoderError` where `config.json` describes another encoder than `wanted`."""
        wrong = [
            f"{key} is {self.config[key]!r}, not {value!r}"
            for key, value in wanted.items()
            if key in self.config and self.config[key] != value
        ]
        if wrong:
            raise EncoderError(f"{self.path / 'config.json'} is not of encoder {name!r}: {'; '.join(wrong)}")


def read_videomae_folder(folder: Path) -> VideoMaeFolder:
    """Read a folder with `config.json` and `model.safetensors` or `pytorch_model.bin` (Hugging Face layout).

    Raises `EncoderError` where either is missing, unreadable, or holds keys that are not of VideoMAE.
    """
    config = _read_config(folder)
    candidates = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise EncoderError(f"{folder}: neither model.safetensors nor pytorch_model.bin is in it")
    raw = _read_tensors(path)
    inside = {
        key.removeprefix("videomae."): value
        for key, value in raw.items()
        if not key.startswith(VIDEOMAE_OUTSIDE)
    }
    inside.pop(VIDEOMAE_POSITIONS, None)
    for key in [
        key for key in inside if key.endswith((".query.bias", ".value.bias"))
    ]:  # transformers 5 in memory
        inside[key.replace("query.bias", "q_bias").replace("value.bias", "v_bias")] = inside.pop(key)
    return VideoMaeFolder(
        path, f"VideoMAE, Hugging Face folder {folder.name}", _from_videomae(inside), config
    )


def read_audiomae_file(path: Path) -> WeightFile:
    """Read AudioMAE's `.pth`: timm's names under the key `model`; its decoder and final norm are left out.

    Raises `EncoderError` for a file that is missing, unreadable or of another layout.
    """
    raw = _read_tensors(path)
    inside = {key: value for key, value in raw.items() if not key.startswith(AUDIOMAE_OUTSIDE)}
    return WeightFile(path, f"AudioMAE file {path.name}", _from_audiomae(inside))


def install(module: nn.Module, file: WeightFile) -> str:
    """Put a file's parameters into a module; returns the file in words.

    Raises `EncoderError` listing missing and unexpected keys and wrong shapes.
    """
    own = module.state_dict()
    problems = [
        *_listed("missing", own.keys() - file.state.keys()),
        *_listed("unexpected", file.state.keys() - own.keys()),
        *_listed(
            "of another shape",
            (
                f"{key} {list(file.state[key].shape)} instead of {list(own[key].shape)}"
                for key in own.keys() & file.state.keys()
                if own[key].shape != file.state[key].shape
            ),
        ),
    ]
    if problems:
        raise EncoderError(f"{file.path}: the weights do not fit this encoder: {'; '.join(problems)}")
    module.load_state_dict({key: value.float() for key, value in file.state.items()})
    return file.words


def fingerprint(config: Mapping[str, Any], module: nn.Module) -> str:
    """Give the sha256 (hexadecimal) of a configuration and of all weights: what a token depends on."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{path}: not readable ({error}); give a folder as Hugging Face lays it out"
        ) from error
    if not isinstance(config, dict) or config.get("model_type") != "videomae":
        raise EncoderError(f"{path}: not the configuration of a VideoMAE model (model_type)")
    return config


def _read_tensors(path: Path) -> State:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # Original checkpoints carry their command line, a Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EncoderError(f"{path}: no such weights file") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(f"{path}: not a weights file that can be read safely ({reason})") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(f"{path}: no table of tensors in it (looked at the top and under the key 'model')")
    return state


def _from_videomae(state: State) -> State:
    names = {
        "attention.output.dense": "attention.out",
        "intermediate.dense": "up",
        "output.dense": "down",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
    }
    ours: State = {}
    for key, value in state.items():
        if key == "embeddings.patch_embeddings.projection.weight":
            ours["embed.weight"] = value.flatten(1)  # [D, 3, tubelet, patch, patch]
        elif key == "embeddings.patch_embeddings.projection.bias":
            ours["embed.bias"] = value
        elif key.startswith("layernorm."):
            ours[key.replace("layernorm", "norm")] = value
        elif key.startswith("encoder.layer."):
            number, rest = key.removeprefix("encoder.layer.").split(".", 1)
            module, _, kind = rest.rpartition(".")
            ours[f"blocks.{number}.{names.get(module, module)}.{kind}"] = value
        else:
            ours[key] = value
    return _join_qkv(ours)


def _join_qkv(state: State) -> State:
    """Put query, key and value of each block into one matrix; the keys' missing bias is zero."""
    inner = ".attention.attention"
    for prefix in sorted({key.split(inner)[0] for key in state if inner in key}):
        parts = [state.pop(f"{prefix}{inner}.{name}.weight", None) for name in ("query", "key", "value")]
        biases = [state.pop(f"{prefix}{inner}.{name}", None) for name in ("q_bias", "v_bias")]
        query, key, value = parts
        if query is not None and key is not None and value is not None:
            state[f"{prefix}.attention.qkv.weight"] = torch.cat([query, key, value])
        q_bias, v_bias = biases
        if q_bias is not None and v_bias is not None:
            state[f"{prefix}.attention.qkv.bias"] = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    return state


def _from_audiomae(state: State) -> State:
    names = {"attn.qkv": "attention.qkv", "attn.proj": "attention.out", "mlp.fc1": "up", "mlp.fc2": "down"}
    ours: State = {}
    for key, value in state.items():
        if key == "patch_embed.proj.weight":
            ours["embed.weight"] = value.flatten(1)  # [D, 1, patch, patch]
        elif key == "patch_embed.proj.bias":
            ours["embed.bias"] = value
        elif key == "cls_token":
            ours["class_token"] = value.flatten()
        elif key == "pos_embed":
            ours["positions"] = value.flatten(0, 1)
        elif key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            module, _, kind = rest.rpartition(".")
            ours[f"blocks.{number}.{names.get(module, module)}.{kind}"] = value
        else:
            ours[key] = value
    return ours


def _listed(what: str, keys: Iterable[str]) -> list[str]:
    keys = sorted(keys)
    shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return [f"{what} {shown}"] if keys else []
