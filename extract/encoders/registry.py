"""Owns the encoders by name: a name and weights in, a frozen module with its fingerprint out.

A name is one of ours or a user's factory, `package.module:factory`. Knows no recipe, cache folder, training.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

from avcil.cache import EncoderInfo
from avcil.errors import EncoderError
from avcil.extract.encoders import random_weights
from avcil.extract.encoders import weights as weight_files
from avcil.extract.encoders.audiomae import has_pool_norm, read_audiomae
from avcil.extract.encoders.contract import FramesInput, MelInput, OwnEncoder, WaveformInput
from avcil.extract.encoders.hub import Located, locate
from avcil.extract.encoders.own import is_own, load_own_encoder
from avcil.extract.encoders.videomae import VideoMaeWeights, read_videomae
from avcil.extract.encoders.vit import (
    AudioConfig,
    AudioTransformer,
    BlockConfig,
    VideoTransformer,
    VisualConfig,
)

ConfigT = TypeVar("ConfigT", VisualConfig, AudioConfig)

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
    """A frozen video network, what it takes and gives (T, S, D), and what the cache keeps of it."""

    module: nn.Module = field(repr=False)
    input: FramesInput
    token_shape: tuple[int, ...]
    info: EncoderInfo


@dataclass(frozen=True)
class AudioEncoder:
    """A frozen network for sound, what it takes and gives (D,), and what the cache keeps of it."""

    module: nn.Module = field(repr=False)
    input: MelInput | WaveformInput
    token_shape: tuple[int, ...]
    info: EncoderInfo


def build_visual_encoder(name: str, weights: str | None = None) -> VisualEncoder:
    """Build a video encoder by name.

    `weights` of ours: a Hugging Face VideoMAE folder, an original `.pth`, `OWNER/NAME[@REVISION]` on the hub,
    or `random`; `demo` needs none. A user's factory is given `weights` as they are. Raises `EncoderError` for
    an unknown name, missing weights, or weights that do not fit.
    """
    if is_own(name):
        own = load_own_encoder("visual", name, weights)
        assert isinstance(own.input, FramesInput), "checked when it was loaded"
        return VisualEncoder(_frozen(own.module), own.input, own.token_shape, _own_info(own))
    return make_visual_encoder(_named("visual", name, VISUAL_ENCODERS), weights)


def build_audio_encoder(name: str, weights: str | None = None) -> AudioEncoder:
    """Build an audio encoder by name.

    `weights` of ours: AudioMAE's `.pth`, timm's file or folder, `OWNER/NAME[@REVISION]` on the hub, or
    `random`; otherwise as `build_visual_encoder`.
    """
    if is_own(name):
        own = load_own_encoder("audio", name, weights)
        assert not isinstance(own.input, FramesInput), "checked when it was loaded"
        return AudioEncoder(_frozen(own.module), own.input, own.token_shape, _own_info(own))
    return make_audio_encoder(_named("audio", name, AUDIO_ENCODERS), weights)


def make_visual_encoder(config: VisualConfig, weights: str | None = None) -> VisualEncoder:
    """As `build_visual_encoder`, of any configuration; final norm and epsilon are the folder's to say."""
    source = _weight_source("visual", config.name, weights)
    sha256 = None
    if source == "random":
        module = VideoTransformer(config)
        words = random_weights.fill_random(module, gain=2.0)
        random_weights.see_contrast(module.embed, channels=3)
    else:
        located = locate(source, with_config=True)
        with weight_files.layout_of(located.path, "VideoMAE's weights"):
            file = read_videomae(located.path)
            config = _as_weights_say(config, file)
        module = VideoTransformer(config)
        words = _words(weight_files.install(module, file), located)
        sha256 = file.sha256
    frames = FramesInput(config.n_frames, config.image_size)
    return VisualEncoder(_frozen(module), frames, config.token_shape, _info(config, module, words, sha256))


def make_audio_encoder(config: AudioConfig, weights: str | None = None) -> AudioEncoder:
    """As `build_audio_encoder`, of any configuration."""
    source = _weight_source("audio", config.name, weights)
    sha256 = None
    if source == "random":
        module = AudioTransformer(config)
        words = random_weights.fill_random(module)
        random_weights.hear_loudly(module.embed)
    else:
        located = locate(source, with_config=False)
        with weight_files.layout_of(located.path, "AudioMAE's weights"):
            file = read_audiomae(located.path)
        module = AudioTransformer(config, pool_norm=has_pool_norm(file))
        words = _words(weight_files.install(module, file), located)
        sha256 = file.sha256
    mel = MelInput(config.mel_frames, config.mel_bins)
    return AudioEncoder(_frozen(module), mel, config.token_shape, _info(config, module, words, sha256))


def _named(kind: str, name: str, known: dict[str, ConfigT]) -> ConfigT:
    if name not in known:
        raise EncoderError(
            f"unknown {kind} encoder {name!r}: known are {', '.join(sorted(known))}, "
            "and package.module:factory for one of your own"
        )
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
            f"--{kind}-weights random to try the plumbing with random ones; FILE may be a name "
            "on the Hugging Face hub"
        )
    return weights


def _as_weights_say(config: VisualConfig, weights: VideoMaeWeights) -> VisualConfig:
    wanted = {
        "hidden_size": config.blocks.width,
        "num_hidden_layers": config.blocks.depth,
        "num_attention_heads": config.blocks.heads,
        "intermediate_size": config.blocks.mlp_width,
        "image_size": config.image_size,
        "patch_size": config.patch,
        "num_channels": 3,
        "num_frames": config.n_frames,
        "tubelet_size": config.tubelet,
        "hidden_act": "gelu",
    }
    weights.require(wanted, config.name)
    norm_eps = float(weights.config.get("layer_norm_eps", config.blocks.norm_eps))
    blocks = dataclasses.replace(config.blocks, norm_eps=norm_eps)
    return dataclasses.replace(config, blocks=blocks, final_norm=weights.has_final_norm)


def _words(words: str, located: Located) -> str:
    return f"{words}, from {located.origin}" if located.origin else words


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def _info(
    config: VisualConfig | AudioConfig, module: nn.Module, words: str, sha256: str | None
) -> EncoderInfo:
    fingerprint = weight_files.fingerprint(dataclasses.asdict(config), module)
    return EncoderInfo(config.name, fingerprint, words, sha256)


def _own_info(own: OwnEncoder) -> EncoderInfo:
    assert own.fingerprint is not None, "computed when it was loaded"
    return EncoderInfo(own.name, own.fingerprint, own.weights)
