"""AudioMAE encoders: their sizes, and their published weights, the original `.pth` or timm's file or folder.

Both name things as timm does; the original holds them under the key `model`, beside a decoder. The port to
timm of the self-supervised file holds a class token, positions, blocks and `norm`, no head. A fine-tuned file
has `fc_norm`, the trained norm of the pooled vector, in the place of `norm`, and a head.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from avcil.extract.encoders.encoder import Encoder
from avcil.extract.encoders.hub import locate
from avcil.extract.encoders.inputs import MelInput
from avcil.extract.encoders.vit import AudioConfig, AudioTransformer, BlockConfig
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
        AudioConfig("demo", BlockConfig(96, 2, 4, 384, 1e-6), mel_frames=384),
        AudioConfig("audiomae-base", BlockConfig(768, 12, 12, 3072, 1e-6)),
    )
}
# The norm of the tokens is not used, see `AudioTransformer`.
OUTSIDE = ("decoder", "mask_token", "norm.", "head.", "cls_head.")
NAMES = {"attn.qkv": "attention.qkv", "attn.proj": "attention.out", "mlp.fc1": "up", "mlp.fc2": "down"}


def audiomae(config: AudioConfig, weights: str | None = None) -> Encoder:
    """Build an audio encoder of any size.

    `weights`: AudioMAE's `.pth`, timm's file or folder, `OWNER/NAME[@REVISION]` on the hub, or `random`;
    `demo` needs none. Raises `EncoderError` for weights that are missing or do not fit.
    """
    weights = required_weights("audio", config.name, weights)
    if weights == "random":
        module = AudioTransformer(config)
        origin = fill_random(module)
        strengthen_random_patches(module.embed)
    else:
        located = locate(weights, with_config=False)
        with expected_layout(located.path, "AudioMAE's weights"):
            file = read_audiomae(located.path)
        is_fine_tuned = any(key.startswith("pool_norm.") for key in file.state)
        module = AudioTransformer(config, pool_norm=is_fine_tuned)
        install(module, file)
        origin = located.origin(file)
    mel = MelInput(config.mel_frames, config.mel_bins)
    return Encoder(module, config.name, mel, config.token_shape, origin, fingerprint(asdict(config), module))


def read_audiomae(path: Path) -> WeightFile:
    """Read AudioMAE's encoder from a file, or from a folder as Hugging Face lays it out.

    Raises `EncoderError` for a file that is missing, unreadable or of another layout.
    """
    file = file_in(path) if path.is_dir() else path
    ours: State = {}
    for name, value in read_tensors(file).items():
        key = name.removeprefix("encoder.")
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
            module, _, parameter = rest.rpartition(".")
            ours[f"blocks.{number}.{NAMES.get(module, module)}.{parameter}"] = value
        else:
            ours[key] = value
    return WeightFile(file, f"AudioMAE {'folder' if path.is_dir() else 'file'}", path.name, ours)
