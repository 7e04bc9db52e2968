"""Our encoders against transformers' VideoMAE and timm's vision transformer holding the same weights."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from avcil.extract.encoders.audiomae import audiomae
from avcil.extract.encoders.videomae import CONFIGS, videomae
from avcil.extract.encoders.vit import AudioConfig, BlockConfig, VisualConfig, sine_cosine
from avcil.extract.recipe import normalise, recommended, resize_crop

VIDEOS = [
    VisualConfig("tiny", BlockConfig(48, 3, 3, 96, 1e-12), image_size=32, patch=8, n_frames=4),
    VisualConfig("deep", BlockConfig(96, 6, 6, 384, 1e-6), image_size=64, patch=16, n_frames=16),
]
SOUNDS = [
    AudioConfig("tiny", BlockConfig(48, 3, 3, 96, 1e-6), mel_frames=64, mel_bins=32, patch=8),
    AudioConfig("deep", BlockConfig(96, 6, 6, 384, 1e-6), mel_frames=256, mel_bins=128, patch=16),
]
HALVES = [(torch.float16, 0.9999), (torch.bfloat16, 0.999)]
NAMES = [config.name for config in VIDEOS]


def reference(package: str) -> Any:
    """A package of the test extra; importing it must not fail on warnings of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)


def randomised(module: nn.Module) -> nn.Module:
    """Weights that keep a signal's size, with nothing at zero or one, so that every parameter counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "token" not in name and "pos" not in name:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.2 * noise + float("norm" in name and name.endswith("weight")))
    return module.eval()


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def hf_config(config: VisualConfig, **more: Any) -> Any:
    return reference("transformers").VideoMAEConfig(
        image_size=config.image_size,
        patch_size=config.patch,
        num_frames=config.n_frames,
        tubelet_size=config.tubelet,
        hidden_size=config.blocks.width,
        num_hidden_layers=config.blocks.depth,
        num_attention_heads=config.blocks.heads,
        intermediate_size=config.blocks.mlp_width,
        layer_norm_eps=config.blocks.norm_eps,
        decoder_hidden_size=24,
        decoder_num_attention_heads=2,
        decoder_num_hidden_layers=1,
        decoder_intermediate_size=48,
        **more,
    )


def hf_model(config: VisualConfig, folder: Path, kind: str, **more: Any) -> nn.Module:
    """A reference of random weights, saved as transformers saves it; gives its encoder."""
    model = randomised(getattr(reference("transformers"), kind)(hf_config(config, **more)))
    model.save_pretrained(folder)
    return getattr(model, "videomae", model)


def hf_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    """[B, N, H, W, 3] -> [B, T * S, D]."""
    with torch.inference_mode():
        return model(pixels.permute(0, 1, 4, 2, 3)).last_hidden_state


def cosine(ours: Tensor, theirs: Tensor) -> float:
    """The worst token's."""
    return float(
        F.cosine_similarity(ours.double().flatten(0, -2), theirs.double().flatten(0, -2), dim=1).min()
    )


@pytest.mark.parametrize("final_norm", [True, False], ids=["norm", "no-norm"])
@pytest.mark.parametrize("config", VIDEOS, ids=NAMES)
def test_video_tokens_are_those_of_transformers(
    config: VisualConfig, final_norm: bool, tmp_path: Path
) -> None:
    model = hf_model(config, tmp_path, "VideoMAEModel", use_mean_pooling=not final_norm)
    stale = dataclasses.replace(config, blocks=dataclasses.replace(config.blocks, norm_eps=1e-3))
    encoder = videomae(stale, str(tmp_path))  # norm and epsilon are the folder's to say
    pixels = randn(2, config.n_frames, config.image_size, config.image_size, 3)
    theirs = hf_tokens(model, pixels)
    with torch.inference_mode():
        ours = encoder.module(pixels).flatten(1, 2)
    assert ours.std() > 0.5
    assert (ours - theirs).abs().max() < 1e-4
    for dtype, least in HALVES:
        with torch.inference_mode(), torch.autocast("cpu", dtype):
            assert cosine(encoder.module(pixels).flatten(1, 2), theirs) >= least


@pytest.mark.parametrize("final_norm", [True, False], ids=["norm", "no-norm"])
@pytest.mark.parametrize("kind", ["VideoMAEForPreTraining", "VideoMAEForVideoClassification"])
def test_folders_of_whole_models_give_their_encoder(kind: str, final_norm: bool, tmp_path: Path) -> None:
    model = hf_model(VIDEOS[0], tmp_path, kind, use_mean_pooling=not final_norm)
    encoder = videomae(VIDEOS[0], str(tmp_path))
    pixels = randn(2, 4, 32, 32, 3)
    assert (encoder.module(pixels).flatten(1, 2) - hf_tokens(model, pixels)).abs().max() < 1e-4


def test_a_model_without_query_and_value_biases(tmp_path: Path) -> None:
    model = hf_model(VIDEOS[0], tmp_path, "VideoMAEModel", qv_bias=False)
    encoder = videomae(VIDEOS[0], str(tmp_path))
    pixels = randn(1, 4, 32, 32, 3)
    assert (encoder.module(pixels).flatten(1, 2) - hf_tokens(model, pixels)).abs().max() < 1e-4


@pytest.mark.parametrize("fine_tuned", [False, True], ids=["pre-trained", "fine-tuned"])
def test_the_original_file_gives_the_same_tokens(fine_tuned: bool, tmp_path: Path) -> None:
    model = hf_model(VIDEOS[0], tmp_path / "hf", "VideoMAEModel", use_mean_pooling=fine_tuned)
    file = tmp_path / "hf" / "checkpoint.pth"  # beside a config.json that does not concern it
    torch.save(original_checkpoint(model, fine_tuned=fine_tuned), file)
    encoder = videomae(VIDEOS[0], str(file))
    pixels = randn(1, 4, 32, 32, 3)
    assert (encoder.module(pixels).flatten(1, 2) - hf_tokens(model, pixels)).abs().max() < 1e-4


def original_checkpoint(model: nn.Module, *, fine_tuned: bool) -> dict[str, object]:
    """The same weights as VideoMAE's own training writes them; what is not the encoder is noise."""
    before = "" if fine_tuned else "encoder."
    embed = model.embeddings.patch_embeddings.projection
    state = {f"{before}patch_embed.proj.{k}": v for k, v in embed.state_dict().items()}
    for i, layer in enumerate(model.encoder.layer):
        at, inner = f"{before}blocks.{i}.", layer.attention.attention
        state[at + "attn.qkv.weight"] = torch.cat(
            [getattr(inner, n).weight for n in ("query", "key", "value")]
        )
        state |= {at + "attn.q_bias": inner.query.bias, at + "attn.v_bias": inner.value.bias}
        parts = {
            "attn.proj": layer.attention.output.dense,
            "mlp.fc1": layer.intermediate.dense,
            "mlp.fc2": layer.output.dense,
            "norm1": layer.layernorm_before,
            "norm2": layer.layernorm_after,
        }
        state |= {f"{at}{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}
    if fine_tuned:
        beside = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
    else:
        state |= {f"encoder.norm.{k}": v for k, v in model.layernorm.state_dict().items()}
        beside = (
            "encoder_to_decoder.weight",
            "mask_token",
            "decoder.blocks.0.attn.q_bias",
            "decoder.head.bias",
        )
    state |= {name: randn(3) for name in beside}
    state = {key: value.detach().clone() for key, value in state.items()}
    return {"module" if fine_tuned else "model": state, "epoch": 3}


def timm_model(config: AudioConfig, **more: Any) -> nn.Module:
    reference("timm")
    from timm.models.vision_transformer import VisionTransformer

    return randomised(
        VisionTransformer(
            img_size=(config.mel_frames, config.mel_bins),
            patch_size=config.patch,
            in_chans=1,
            embed_dim=config.blocks.width,
            depth=config.blocks.depth,
            num_heads=config.blocks.heads,
            mlp_ratio=config.blocks.mlp_width / config.blocks.width,
            **more,
        )
    )


def timm_vector(model: Any, mel: Tensor) -> Tensor:
    """The mean over patches, normed: with timm's own `fc_norm`, or with the norm of a file without one."""
    with torch.inference_mode():
        if isinstance(model.fc_norm, nn.LayerNorm):
            return model.forward_head(model.forward_features(mel[:, None]), pre_logits=True)
        model.norm = nn.Identity()
        patches = model.forward_features(mel[:, None])[:, 1:]
        return F.layer_norm(patches.mean(1), patches.shape[2:], eps=1e-6)


@pytest.mark.parametrize("pool", ["token", "avg"], ids=["self-supervised", "fine-tuned"])
@pytest.mark.parametrize("config", SOUNDS, ids=NAMES)
def test_audio_vectors_are_those_of_timm(config: AudioConfig, pool: str, tmp_path: Path) -> None:
    model = timm_model(config, global_pool=pool, num_classes=0 if pool == "token" else 5)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = audiomae(config, str(tmp_path))
    mel = randn(3, config.mel_frames, config.mel_bins)
    theirs = timm_vector(model, mel)
    with torch.inference_mode():
        ours = encoder.module(mel)
    assert (ours - theirs).abs().max() < 1e-4
    for dtype, least in HALVES:
        with torch.inference_mode(), torch.autocast("cpu", dtype):
            assert cosine(encoder.module(mel), theirs) >= least


def test_timms_folder_and_the_original_file_are_one_encoder(tmp_path: Path) -> None:
    state = timm_model(SOUNDS[0], global_pool="token", num_classes=0).state_dict()
    assert "norm.weight" in state and not [key for key in state if key.startswith(("fc_norm", "head"))]
    save_file(state, tmp_path / "model.safetensors")
    decoder = {
        "decoder_pos_embed": randn(1, 3),
        "decoder_blocks.0.norm1.bias": randn(3),
        "mask_token": randn(1),
    }
    torch.save({"model": {**state, **decoder}}, tmp_path / "pretrained.pth")
    timms, original = (
        audiomae(SOUNDS[0], str(path)).info for path in (tmp_path, tmp_path / "pretrained.pth")
    )
    assert timms.fingerprint == original.fingerprint
    assert timms.weights.sha256 != original.weights.sha256


@pytest.mark.parametrize("name", ["videomae-small", "videomae-base"])
def test_positions_are_those_of_transformers(name: str) -> None:
    reference("transformers")
    from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

    n_time, n_space, width = CONFIGS[name].token_shape
    theirs = get_sinusoid_encoding_table(n_time * n_space, width)[0]
    assert (sine_cosine(n_time * n_space, width) - theirs).abs().max() < 1e-8  # one in a million rounds apart


@pytest.mark.parametrize("processor", ["VideoMAEImageProcessorPil", "VideoMAEImageProcessor"])
@pytest.mark.parametrize("shape", [(256, 340), (360, 480), (240, 135), (225, 301)])
def test_pixels_are_those_of_the_image_processor(shape: tuple[int, int], processor: str) -> None:
    transformers = reference("transformers")
    if not hasattr(transformers, processor):
        pytest.skip(f"this version of transformers has no {processor}")
    frames = scenes(2, *shape)
    make = getattr(transformers, processor)
    recipe = recommended()
    theirs = make(image_mean=recipe.pixel_mean, image_std=recipe.pixel_std)(list(frames), return_tensors="pt")
    ours = normalise(torch.from_numpy(resize_crop(frames, 224))[None], recipe)
    grey = (ours - theirs["pixel_values"].permute(0, 1, 3, 4, 2)).abs() * torch.tensor(recipe.pixel_std)
    assert grey.mean() < 0.1 / 255 and grey.max() < 1.1 / 255


def scenes(n: int, height: int, width: int) -> np.ndarray:
    """Frames as a camera gives them, uint8 [n, H, W, 3]: slopes, edges, fine texture and grain."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / height
    frames = []
    for i in range(n):
        light = 90 + 80 * x[..., None] * rng.random(3) + 30 * np.sin(40 * (x + 0.1 * i) * y)[..., None]
        light[(x - 0.5 - 0.05 * i) ** 2 + (y - 0.4) ** 2 < 0.06] = rng.integers(0, 255, 3)
        light += 25 * np.sin(2 * np.pi * 60 * x)[..., None] * (y > 0.6)[..., None]
        frames.append(light + rng.normal(0, 6, (height, width, 3)))
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)
