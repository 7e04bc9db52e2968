"""Named encoders, their weights and their fingerprints."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.weight_files import (
    AUDIO,
    HF_CONFIG,
    VIDEO,
    audiomae_file,
    audiomae_state,
    randn,
    videomae_folder,
    videomae_state,
)

from avcil.cache import WeightsOrigin
from avcil.errors import EncoderError
from avcil.extract.encoders import audiomae as audiomae_module
from avcil.extract.encoders import videomae as videomae_module
from avcil.extract.encoders.audiomae import audiomae
from avcil.extract.encoders.encoder import Modality
from avcil.extract.encoders.registry import build_encoder
from avcil.extract.encoders.videomae import videomae


def test_demo_encoders_are_always_the_same() -> None:
    visual, audio = build_encoder("visual", "demo"), build_encoder("audio", "demo")
    assert visual.info == build_encoder("visual", "demo", "random").info
    assert visual.token_shape == (8, 16, 96) and audio.token_shape == (96,)
    assert visual.module(torch.zeros(1, 16, 64, 64, 3)).shape == (1, 8, 16, 96)
    assert audio.module(torch.zeros(1, 384, 128)).shape == (1, 96)
    assert (
        visual.info.weights == WeightsOrigin("random", "seed 0")
        and visual.info.fingerprint != audio.info.fingerprint
    )
    assert not any(parameter.requires_grad for parameter in visual.module.parameters())


def test_base_encoders_have_the_published_shapes() -> None:
    assert videomae_module.CONFIGS["videomae-base"].token_shape == (8, 196, 768)
    assert audiomae_module.CONFIGS["audiomae-base"].token_shape == (768,)
    visual = build_encoder("visual", "videomae-base", "random").module
    # ViT-B: 12 blocks of 4 D^2 + 8 D^2 weights; the biases of the keys are there and zero.
    n_block = 12 * 768**2 + 4 * 768 + 3072 + 768 + 4 * 768 + 768 - 768
    assert sum(p.numel() for p in visual.parameters()) == 12 * n_block + 768 * 3 * 2 * 16 * 16 + 3 * 768


def test_names_and_weights_are_asked_for() -> None:
    with pytest.raises(EncoderError, match="unknown visual encoder 'clip': known are demo, videomae-base"):
        build_encoder("visual", "clip")
    with pytest.raises(EncoderError, match="--visual-weights FILE, or --visual-weights random"):
        build_encoder("visual", "videomae-base")
    with pytest.raises(EncoderError, match="--audio-weights FILE, or --audio-weights random"):
        build_encoder("audio", "audiomae-base")
    with pytest.raises(EncoderError, match="'demo' is random by design"):
        build_encoder("audio", "demo", "x.pth")


def test_videomae_parameters_land_where_they_belong(tmp_path: Path) -> None:
    state = videomae_state()
    encoder = videomae(VIDEO, videomae_folder(tmp_path / "vm"))
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
    assert encoder.module.config.blocks.norm_eps == 1e-12 and encoder.module.blocks[0].norm1.eps == 1e-12


def test_a_bin_file_and_no_final_norm(tmp_path: Path) -> None:
    state = {
        key.removeprefix("videomae."): value
        for key, value in videomae_state().items()
        if ".layernorm." not in key
    }
    folder = Path(videomae_folder(tmp_path / "vm", use_mean_pooling=True))
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    encoder = videomae(VIDEO, str(folder))
    assert not encoder.module.config.final_norm and isinstance(encoder.module.norm, torch.nn.Identity)


def test_the_fingerprint_follows_weights_and_configuration(tmp_path: Path) -> None:
    first = videomae(VIDEO, videomae_folder(tmp_path / "a"))
    same = videomae(VIDEO, videomae_folder(tmp_path / "b"))
    other_eps = videomae(VIDEO, videomae_folder(tmp_path / "c", layer_norm_eps=1e-5))
    state = videomae_state()
    state["videomae.layernorm.bias"][3] += 1e-3
    other_weight = videomae(VIDEO, videomae_folder(tmp_path / "d", state))
    prints = [encoder.info.fingerprint for encoder in (first, same, other_eps, other_weight)]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_keys_that_lack_or_are_too_many_are_named(tmp_path: Path) -> None:
    state = videomae_state()
    del state["videomae.encoder.layer.1.attention.attention.q_bias"]
    state["videomae.extra"] = randn(2)
    state["videomae.layernorm.bias"] = randn(5)
    with pytest.raises(EncoderError) as caught:
        videomae(VIDEO, videomae_folder(tmp_path / "vm", state))
    text = str(caught.value)
    assert "missing blocks.1.attention.qkv.bias" in text and "unexpected extra" in text
    assert "norm.bias [5] instead of [12]" in text and "model.safetensors" in text


def test_a_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"config\.json is not of encoder 'small': hidden_size is 16, not 12"
    ):
        videomae(VIDEO, videomae_folder(tmp_path / "vm", hidden_size=16))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"config\.json: not readable"):
        videomae(VIDEO, str(tmp_path))
    folder = Path(videomae_folder(tmp_path / "vm"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"neither model\.safetensors nor"):
        videomae(VIDEO, str(folder))
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(EncoderError, match="not a weights file"):
        videomae(VIDEO, str(folder))


def test_audiomae_parameters_land_where_they_belong(tmp_path: Path) -> None:
    state = audiomae_state()
    module = audiomae(AUDIO, audiomae_file(tmp_path / "a.pth", state)).module
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
        audiomae(AUDIO, str(tmp_path / "a.pth"))
    with pytest.raises(EncoderError, match="no such weights file"):
        audiomae(AUDIO, str(tmp_path / "b.pth"))


def test_the_hash_of_the_file_is_kept_and_does_not_decide(tmp_path: Path) -> None:
    folder = videomae_folder(tmp_path / "a")
    safe = videomae(VIDEO, folder).info
    assert safe.weights.sha256 == hashlib.sha256((tmp_path / "a/model.safetensors").read_bytes()).hexdigest()
    other = Path(videomae_folder(tmp_path / "b"))
    torch.save(videomae_state(), other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    pickled = videomae(VIDEO, str(other)).info
    assert pickled.fingerprint == safe.fingerprint and pickled.weights.sha256 != safe.weights.sha256
    assert build_encoder("visual", "demo").info.weights.sha256 == ""


def test_a_file_out_of_a_folder_is_read_with_its_config(tmp_path: Path) -> None:
    folder = videomae_folder(tmp_path / "vm")
    whole, file = (videomae(VIDEO, at).info for at in (folder, f"{folder}/model.safetensors"))
    assert whole.fingerprint == file.fingerprint
    (tmp_path / "vm/config.json").unlink()
    with pytest.raises(EncoderError, match=r"config\.json: not readable"):
        videomae(VIDEO, f"{folder}/model.safetensors")


def test_what_a_config_leaves_out_is_the_default_of_transformers(tmp_path: Path) -> None:
    folder = videomae_folder(tmp_path / "vm")
    config = {key: value for key, value in HF_CONFIG.items() if key != "num_attention_heads"}
    (tmp_path / "vm/config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="num_attention_heads is 12, not 3"):
        videomae(VIDEO, folder)


def test_original_files_name_what_does_not_fit(tmp_path: Path) -> None:
    state = {"encoder.patch_embed.proj.weight": randn(12, 3, 2, 8, 8), "encoder.extra": randn(1)}
    torch.save({"model": {**state, "decoder.x": randn(1)}, "optimizer": {"step": 3}}, tmp_path / "a.pth")
    with pytest.raises(EncoderError) as caught:
        videomae(VIDEO, str(tmp_path / "a.pth"))
    text = str(caught.value)
    assert "missing blocks.0.attention.out.bias" in text and "unexpected extra" in text
    assert "decoder" not in text


def test_a_fine_tuned_audio_file_brings_the_norm_of_its_vector(tmp_path: Path) -> None:
    state = audiomae_state()
    plain = audiomae(AUDIO, audiomae_file(tmp_path / "a.pth", state))
    state |= {"fc_norm.weight": randn(12), "fc_norm.bias": randn(12), "head.weight": randn(5, 12)}
    tuned = audiomae(AUDIO, audiomae_file(tmp_path / "b.pth", state))
    mel = torch.linspace(-1, 1, 128).view(1, 16, 8)
    expected = plain.module(mel) * state["fc_norm.weight"] + state["fc_norm.bias"]
    assert torch.allclose(tuned.module(mel), expected, atol=1e-5)
    assert plain.info.fingerprint != tuned.info.fingerprint


def test_an_audio_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        audiomae(AUDIO, str(tmp_path))
    save_file({"x": randn(1)}, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=r"model\.safetensors: the weights do not fit .* unexpected x"):
        audiomae(AUDIO, str(tmp_path))


@pytest.mark.parametrize(
    "state",
    [
        {0: torch.zeros(2)},
        {"blocks.0": torch.zeros(2)},
        {"patch_embed.proj.weight": torch.zeros(())},
        {"blocks.0.attn.qkv.weight": torch.zeros(3), "blocks.0.attn.q_bias": torch.zeros(2, 2)},
    ],
    ids=["numbers", "short", "no-axes", "ranks"],
)
@pytest.mark.parametrize(
    ("modality", "name"), [("visual", "videomae-base"), ("audio", "audiomae-base")], ids=["visual", "audio"]
)
def test_a_file_of_another_layout_is_one_clear_error(
    modality: Modality, name: str, state: dict[object, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({"model": state}, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match=r"weights\.pth"):
        build_encoder(modality, name, str(tmp_path / "weights.pth"))
