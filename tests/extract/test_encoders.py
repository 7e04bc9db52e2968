"""Named encoders, their weights and their fingerprints."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from avcil.errors import EncoderError
from avcil.extract.encoders import (
    AUDIO_ENCODERS,
    VISUAL_ENCODERS,
    build_audio_encoder,
    build_visual_encoder,
    make_audio_encoder,
    make_visual_encoder,
)
from avcil.extract.vit import AudioConfig, BlockConfig, VisualConfig

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


def test_demo_encoders_are_always_the_same() -> None:
    visual, audio = build_visual_encoder("demo"), build_audio_encoder("demo")
    assert visual.info == build_visual_encoder("demo", "random").info
    assert visual.config.token_shape == (8, 16, 96) and audio.config.token_shape == (96,)
    assert visual.module(torch.zeros(1, 16, 64, 64, 3)).shape == (1, 8, 16, 96)
    assert audio.module(torch.zeros(1, 384, 128)).shape == (1, 96)
    assert visual.info.weights == "random (seed 0)" and visual.info.fingerprint != audio.info.fingerprint
    assert not any(parameter.requires_grad for parameter in visual.module.parameters())


def test_base_encoders_have_the_published_shapes() -> None:
    assert VISUAL_ENCODERS["videomae-base"].token_shape == (8, 196, 768)
    assert AUDIO_ENCODERS["audiomae-base"].token_shape == (768,)
    visual = build_visual_encoder("videomae-base", "random").module
    # ViT-B: 12 blocks of 4 D^2 + 8 D^2 weights; the biases of the keys are there and zero.
    n_block = 12 * 768**2 + 4 * 768 + 3072 + 768 + 4 * 768 + 768 - 768
    assert sum(p.numel() for p in visual.parameters()) == 12 * n_block + 768 * 3 * 2 * 16 * 16 + 3 * 768


def test_names_and_weights_are_asked_for() -> None:
    with pytest.raises(EncoderError, match="unknown visual encoder 'clip': known are demo, videomae-base"):
        build_visual_encoder("clip")
    with pytest.raises(EncoderError, match="--visual-weights FILE, or --visual-weights random"):
        build_visual_encoder("videomae-base")
    with pytest.raises(EncoderError, match="--audio-weights FILE, or --audio-weights random"):
        build_audio_encoder("audiomae-base")
    with pytest.raises(EncoderError, match="'demo' is random by design"):
        build_audio_encoder("demo", "x.pth")


def test_videomae_parameters_land_where_they_belong(tmp_path: Path) -> None:
    state = videomae_state()
    encoder = make_visual_encoder(VIDEO, videomae_folder(tmp_path / "vm"))
    block, at = encoder.module.blocks[1], "videomae.encoder.layer.1."
    q, k, v = block.attention.qkv.weight.chunk(3)
    q_bias, k_bias, v_bias = block.attention.qkv.bias.chunk(3)
    pairs = [
        (
            encoder.module.embed.weight.view(12, 3, 2, 8, 8),
            "videomae.embeddings.patch_embeddings.projection.weight",
        ),
        (encoder.module.norm.bias, "videomae.layernorm.bias"),
        (q, at + "attention.attention.query.weight"),
        (k, at + "attention.attention.key.weight"),
        (v, at + "attention.attention.value.weight"),
        (q_bias, at + "attention.attention.q_bias"),
        (v_bias, at + "attention.attention.v_bias"),
        (block.attention.out.weight, at + "attention.output.dense.weight"),
        (block.up.weight, at + "intermediate.dense.weight"),
        (block.down.bias, at + "output.dense.bias"),
        (block.norm1.weight, at + "layernorm_before.weight"),
        (block.norm2.bias, at + "layernorm_after.bias"),
    ]
    assert all(torch.equal(ours, state[key]) for ours, key in pairs)
    assert (k_bias == 0).all()
    assert encoder.config.blocks.norm_eps == 1e-12 and encoder.module.blocks[0].norm1.eps == 1e-12


def test_a_bin_file_and_no_final_norm(tmp_path: Path) -> None:
    state = {
        key.removeprefix("videomae."): value
        for key, value in videomae_state().items()
        if ".layernorm." not in key
    }
    folder = Path(videomae_folder(tmp_path / "vm", use_mean_pooling=True))
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    encoder = make_visual_encoder(VIDEO, str(folder))
    assert not encoder.config.final_norm and isinstance(encoder.module.norm, torch.nn.Identity)


def test_the_fingerprint_follows_weights_and_configuration(tmp_path: Path) -> None:
    first = make_visual_encoder(VIDEO, videomae_folder(tmp_path / "a"))
    same = make_visual_encoder(VIDEO, videomae_folder(tmp_path / "b"))
    other_eps = make_visual_encoder(VIDEO, videomae_folder(tmp_path / "c", layer_norm_eps=1e-5))
    state = videomae_state()
    state["videomae.layernorm.bias"][3] += 1e-3
    other_weight = make_visual_encoder(VIDEO, videomae_folder(tmp_path / "d", state))
    prints = [encoder.info.fingerprint for encoder in (first, same, other_eps, other_weight)]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_keys_that_lack_or_are_too_many_are_named(tmp_path: Path) -> None:
    state = videomae_state()
    del state["videomae.encoder.layer.1.attention.attention.q_bias"]
    state["videomae.extra"] = randn(2)
    state["videomae.layernorm.bias"] = randn(5)
    with pytest.raises(EncoderError) as caught:
        make_visual_encoder(VIDEO, videomae_folder(tmp_path / "vm", state))
    text = str(caught.value)
    assert "missing blocks.1.attention.qkv.bias" in text and "unexpected extra" in text
    assert "norm.bias [5] instead of [12]" in text and "model.safetensors" in text


def test_a_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"config\.json is not of encoder 'small': hidden_size is 16, not 12"
    ):
        make_visual_encoder(VIDEO, videomae_folder(tmp_path / "vm", hidden_size=16))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"config\.json: not readable"):
        make_visual_encoder(VIDEO, str(tmp_path))
    folder = Path(videomae_folder(tmp_path / "vm"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"neither model\.safetensors nor"):
        make_visual_encoder(VIDEO, str(folder))
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(EncoderError, match="not a weights file"):
        make_visual_encoder(VIDEO, str(folder))


def test_audiomae_parameters_land_where_they_belong(tmp_path: Path) -> None:
    state = audiomae_state()
    module = make_audio_encoder(AUDIO, audiomae_file(tmp_path / "a.pth", state)).module
    pairs = [
        (module.class_token, "cls_token"),
        (module.positions, "pos_embed"),
        (module.embed.weight, "patch_embed.proj.weight"),
        (module.blocks[1].attention.qkv.weight, "blocks.1.attn.qkv.weight"),
        (module.blocks[0].attention.out.bias, "blocks.0.attn.proj.bias"),
        (module.blocks[1].up.weight, "blocks.1.mlp.fc1.weight"),
        (module.blocks[1].down.weight, "blocks.1.mlp.fc2.weight"),
        (module.blocks[0].norm2.weight, "blocks.0.norm2.weight"),
    ]
    assert all(torch.equal(ours.flatten(), state[key].flatten()) for ours, key in pairs)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, ("1 / 0",)

    torch.save({"model": Trap()}, tmp_path / "a.pth")
    with pytest.raises(EncoderError, match="not a weights file that can be read safely"):
        make_audio_encoder(AUDIO, str(tmp_path / "a.pth"))
    with pytest.raises(EncoderError, match="no such weights file"):
        make_audio_encoder(AUDIO, str(tmp_path / "b.pth"))
