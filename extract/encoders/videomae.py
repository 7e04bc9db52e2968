"""VideoMAE encoders: their sizes, and their published weights, a Hugging Face folder or the original `.pth`.

Every key of a file is either used, known not to belong to the encoder, or left for `weights.install` to name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avcil.errors import EncoderError
from avcil.extract.encoders.encoder import Encoder
from avcil.extract.encoders.hub import locate
from avcil.extract.encoders.inputs import FramesInput
from avcil.extract.encoders.vit import BlockConfig, VideoTransformer, VisualConfig
from avcil.extract.encoders.weights import (
    State,
    WeightFile,
    expected_layout,
    file_in,
    fill_random,
    fingerprint,
    install,
    read_tensors,
    required_weights,
    strengthen_random_patches,
)

CONFIGS = {
    config.name: config
    for config in (
        VisualConfig("demo", BlockConfig(96, 2, 4, 384, 1e-6), image_size=64),
        VisualConfig("videomae-small", BlockConfig(384, 12, 6, 1536, 1e-12)),
        VisualConfig("videomae-base", BlockConfig(768, 12, 12, 3072, 1e-12)),
        VisualConfig("videomae-large", BlockConfig(1024, 24, 16, 4096, 1e-12)),
    )
}
# What lies beside the encoder: the decoder of pre-training, the heads of fine-tuning.
OUTSIDE = ("decoder.", "encoder_to_decoder.", "mask_token", "classifier.", "head.", "fc_norm.", "cls_head.")
POSITIONS = "embeddings.position_embeddings"  # fixed, recomputed here; stored by some versions only
HF_DEFAULTS = {  # of transformers.VideoMAEConfig: a config.json need not repeat them
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qv_bias": True,
    "use_mean_pooling": True,
}
HF_NAMES = {
    "attention.output.dense": "attention.out",
    "intermediate.dense": "up",
    "output.dense": "down",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}
ORIGINAL_NAMES = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
}


@dataclass(frozen=True)
class VideoMaeWeights(WeightFile):
    """VideoMAE's parameters, and the sizes and settings that came with them (names of `VideoMAEConfig`)."""

    config: Mapping[str, Any]


def videomae(config: VisualConfig, weights: str | None = None) -> Encoder:
    """Build a video encoder of any size; whether it ends with a norm, and with which epsilon, a folder says.

    `weights`: a Hugging Face VideoMAE folder, an original `.pth`, `OWNER/NAME[@REVISION]` on the hub, or
    `random`; `demo` needs none. Raises `EncoderError` for weights that are missing or do not fit.
    """
    weights = required_weights("visual", config.name, weights)
    if weights == "random":
        module = VideoTransformer(config)
        origin = fill_random(module, gain=2.0)
        strengthen_random_patches(module.embed, channels=3)
    else:
        located = locate(weights, with_config=True)
        with expected_layout(located.path, "VideoMAE's weights"):
            file = read_videomae(located.path)
            config = _as_folder_says(config, file)
        module = VideoTransformer(config)
        install(module, file)
        origin = located.origin(file)
    frames = FramesInput(config.n_frames, config.image_size)
    return Encoder(
        module, config.name, frames, config.token_shape, origin, fingerprint(asdict(config), module)
    )


def _as_folder_says(ours: VisualConfig, weights: VideoMaeWeights) -> VisualConfig:
    """Take norm and epsilon from the weights' configuration; raises where the rest is another encoder's."""
    wanted = {
        "hidden_size": ours.blocks.width,
        "num_hidden_layers": ours.blocks.depth,
        "num_attention_heads": ours.blocks.heads,
        "intermediate_size": ours.blocks.mlp_width,
        "image_size": ours.image_size,
        "patch_size": ours.patch,
        "num_channels": 3,
        "num_frames": ours.n_frames,
        "tubelet_size": ours.tubelet,
        "hidden_act": "gelu",
    }
    given = weights.config
    wrong = [
        f"{key} is {given[key]!r}, not {value!r}"
        for key, value in wanted.items()
        if key in given and given[key] != value
    ]
    if wrong:
        path = weights.path.parent / "config.json"
        raise EncoderError(f"{path} is not of encoder {ours.name!r}: {'; '.join(wrong)}")
    blocks = replace(ours.blocks, norm_eps=float(given.get("layer_norm_eps", ours.blocks.norm_eps)))
    # Models that pool the tokens norm them after that.
    return replace(ours, blocks=blocks, final_norm=not given["use_mean_pooling"])


def read_videomae(path: Path) -> VideoMaeWeights:
    """Read a Hugging Face VideoMAE folder, or a file: one out of such a folder, or the original `.pth`.

    Raises `EncoderError` for what is missing, unreadable or of another layout.
    """
    if path.is_dir():
        config = _read_config(path)
        file = file_in(path)
        return _from_hugging_face(file, config, read_tensors(file))
    raw = read_tensors(path)
    if any(".attention.attention." in key for key in raw):
        return _from_hugging_face(path, _read_config(path.parent), raw)
    return _from_original(path, raw)


def _from_hugging_face(file: Path, config: Mapping[str, Any], raw: State) -> VideoMaeWeights:
    inside = {
        key.removeprefix("videomae."): value for key, value in raw.items() if not key.startswith(OUTSIDE)
    }
    inside.pop(POSITIONS, None)
    ours: State = {}
    for key, value in inside.items():
        if key == "embeddings.patch_embeddings.projection.weight":
            ours["embed.weight"] = value.flatten(1)  # [D, 3, tubelet, patch, patch]
        elif key == "embeddings.patch_embeddings.projection.bias":
            ours["embed.bias"] = value
        elif key.startswith("layernorm."):
            ours[key.replace("layernorm", "norm")] = value
        elif key.startswith("encoder.layer."):
            number, rest = key.removeprefix("encoder.layer.").split(".", 1)
            ours[f"blocks.{number}.{_renamed(rest, HF_NAMES)}"] = value
        else:
            ours[key] = value
    for i in range(int(config["num_hidden_layers"])):
        _join_qkv(ours, f"blocks.{i}.attention", has_bias=bool(config["qv_bias"]))
    return VideoMaeWeights(file, "VideoMAE, Hugging Face folder", file.parent.name, ours, config)


def _from_original(path: Path, raw: State) -> VideoMaeWeights:
    inside = {
        key.removeprefix("encoder."): value for key, value in raw.items() if not key.startswith(OUTSIDE)
    }
    ours: State = {}
    for key, value in inside.items():
        if key == "patch_embed.proj.weight":
            ours["embed.weight"] = value.flatten(1)  # [D, 3, tubelet, patch, patch]
        elif key == "patch_embed.proj.bias":
            ours["embed.bias"] = value
        elif key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            ours[f"blocks.{number}.{_renamed(rest, ORIGINAL_NAMES)}"] = value
        else:
            ours[key] = value
    for block in sorted({key.rpartition(".attn.")[0] for key in ours if key.endswith("_bias")}):
        biases = (ours.pop(f"{block}.attn.q_bias", None), ours.pop(f"{block}.attn.v_bias", None))
        _join_biases(ours, f"{block}.attention", *biases)
    # Fine-tuned files pool the tokens, and norm only the pooled one.
    config = {"use_mean_pooling": any(key.startswith("fc_norm.") for key in raw)}
    return VideoMaeWeights(path, "VideoMAE, original file", path.name, ours, config)


def _renamed(key: str, names: Mapping[str, str]) -> str:
    module, _, parameter = key.rpartition(".")
    return f"{names.get(module, module)}.{parameter}"


def _join_qkv(state: State, prefix: str, *, has_bias: bool) -> None:
    """Put query, key and value of a block into one matrix."""
    inner = f"{prefix}.attention"
    query, key, value = (state.pop(f"{inner}.{name}.weight", None) for name in ("query", "key", "value"))
    if query is not None and key is not None and value is not None:
        state[f"{prefix}.qkv.weight"] = torch.cat([query, key, value])
    # The biases' names before transformers 5, and since.
    q_bias, v_bias = (
        state.pop(f"{inner}.{old}", state.pop(f"{inner}.{new}", None))
        for old, new in (("q_bias", "query.bias"), ("v_bias", "value.bias"))
    )
    _join_biases(state, prefix, q_bias, v_bias)
    if not has_bias and query is not None:
        state[f"{prefix}.qkv.bias"] = torch.zeros(3 * len(query))


def _join_biases(state: State, prefix: str, query: Tensor | None, value: Tensor | None) -> None:
    """Put a block's biases into one vector; the keys' missing bias is zero. What lacks stays missing."""
    if query is not None and value is not None:
        state[f"{prefix}.qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])


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
    return {**HF_DEFAULTS, **config}
