"""Owns the named encoders: a configuration and weights in, a frozen module with its fingerprint out.

Knows weight files only through `weights`, and no recipe, cache folder or training.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import nn

from avcil.cache import EncoderInfo
from avcil.errors import EncoderError
from avcil.extract import random_weights
from avcil.extract import weights as weight_files
from avcil.extract.vit import AudioConfig, AudioTransformer, BlockConfig, VideoTransformer, VisualConfig

ConfigT = TypeVar("ConfigT", VisualConfig, AudioConfig)
ModuleT = TypeVar("ModuleT", bound=nn.Module)

VIT_SMALL = BlockConfig(384, 12, 6, 1536, 1e-12)
VIT_BASE = BlockConfig(768, 12, 12, 3072, 1e-12)
VIT_LARGE = BlockConfig(1024, 24, 16, 4096, 1e-12)
DEMO = BlockConfig(96, 2, 4, 384, 1e-6)
VISUAL_ENCODERS = {
    config.name: config
    for config in (
        VisualConfig("demo", DEMO, image_size=64),
        VisualConfig("videomae-small", VIT_SMALL),
        VisualConfig("videomae-base", VIT_BASE),
        VisualConfig("videomae-large", VIT_LARGE),
    )
}
AUDIO_ENCODERS = {
    config.name: config
    for config in (
        AudioConfig("demo", DEMO, mel_frames=384),
        AudioConfig("audiomae-base", dataclasses.replace(VIT_BASE, norm_eps=1e-6)),
    )
}


@dataclass(frozen=True)
class VisualEncoder:
    """A frozen video transformer, its configuration and what the cache keeps of it."""

    module: VideoTransformer = field(repr=False)
    config: VisualConfig
    info: EncoderInfo


@dataclass(frozen=True)
class AudioEncoder:
    """A frozen spectrogram transformer, its configuration and what the cache keeps of it."""

    module: AudioTransformer = field(repr=False)
    config: AudioConfig
    info: EncoderInfo


def build_visual_encoder(name: str, weights: str | None = None) -> VisualEncoder:
    """Build a named video encoder; `weights`: a Hugging Face VideoMAE folder or `random`; `demo` needs none.

    Raises `EncoderError` for an unknown name, missing weights, or weights that do not fit.
    """
    return make_visual_encoder(_named("visual", name, VISUAL_ENCODERS), weights)


def build_audio_encoder(name: str, weights: str | None = None) -> AudioEncoder:
    """Build a named audio encoder; `weights`: an AudioMAE `.pth` file or `random`; `demo` needs none.

    Raises `EncoderError` for an unknown name, missing weights, or weights that do not fit.
    """
    return make_audio_encoder(_named("audio", name, AUDIO_ENCODERS), weights)


def make_visual_encoder(config: VisualConfig, weights: str | None = None) -> VisualEncoder:
    """As `build_visual_encoder`, of any configuration; final norm and epsilon are the folder's to say."""
    source = _weight_source("visual", config.name, weights)
    if source == "random":
        module = VideoTransformer(config)
        words = random_weights.fill_random(module, gain=2.0)
        random_weights.see_contrast(module.embed, channels=3)
    else:
        folder = weight_files.read_videomae_folder(Path(source))
        config = _as_folder_says(config, folder)
        module = VideoTransformer(config)
        words = weight_files.install(module, folder)
    return VisualEncoder(_frozen(module), config, _info(config, module, words))


def make_audio_encoder(config: AudioConfig, weights: str | None = None) -> AudioEncoder:
    """As `build_audio_encoder`, of any configuration."""
    source = _weight_source("audio", config.name, weights)
    module = AudioTransformer(config)
    if source == "random":
        words = random_weights.fill_random(module)
        random_weights.hear_loudly(module.embed)
    else:
        words = weight_files.install(module, weight_files.read_audiomae_file(Path(source)))
    return AudioEncoder(_frozen(module), config, _info(config, module, words))


def _named(kind: str, name: str, known: dict[str, ConfigT]) -> ConfigT:
    if name not in known:
        raise EncoderError(f"unknown {kind} encoder {name!r}: known are {', '.join(sorted(known))}")
    return known[name]


def _weight_source(kind: str, name: str, weights: str | None) -> str:
    if name == "demo":
        if weights not in (None, "random"):
            raise EncoderError(
                f"the {kind} encoder 'demo' is random by design: leave out --{kind}-weights {weights}"
            )
        return "random"
    if weights is None:
        raise EncoderError(
            f"the {kind} encoder {name!r} needs its weights: give --{kind}-weights FILE, or "
            f"--{kind}-weights random to try the plumbing with random ones"
        )
    return weights


def _as_folder_says(config: VisualConfig, folder: weight_files.VideoMaeFolder) -> VisualConfig:
    wanted = {
        "hidden_size": config.blocks.width,
        "num_hidden_layers": config.blocks.depth,
        "num_attention_heads": config.blocks.heads,
        "intermediate_size": config.blocks.mlp_width,
        "image_size": config.image_size,
        "patch_size": config.patch,
        "num_frames": config.n_frames,
        "tubelet_size": config.tubelet,
        "hidden_act": "gelu",
    }
    folder.require(wanted, config.name)
    blocks = dataclasses.replace(config.blocks, norm_eps=float(folder.config.get("layer_norm_eps", 1e-12)))
    return dataclasses.replace(
        config, blocks=blocks, final_norm=not folder.config.get("use_mean_pooling", True)
    )


def _frozen(module: ModuleT) -> ModuleT:
    return module.eval().requires_grad_(False)


def _info(config: VisualConfig | AudioConfig, module: nn.Module, words: str) -> EncoderInfo:
    fingerprint = weight_files.fingerprint(dataclasses.asdict(config), module)
    return EncoderInfo(name=config.name, fingerprint=fingerprint, weights=words)
