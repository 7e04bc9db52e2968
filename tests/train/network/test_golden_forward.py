"""The network against the published program's outputs: every entry, both heads, growth."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import golden
from support.golden import assert_close, draw_clips, draw_network, load_golden
from torch import Tensor

from avcil.train.network.layers import LinearLayer

ENTRIES = load_golden("forward")
PRECISIONS = {"float64": (torch.float64, 1e-9), "float32": (torch.float32, 1e-5)}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ENTRIES)
def test_forward(name: str, precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    assert set(ENTRIES[name]) <= golden.ENTRY, f"no check knows the entry {name!r}"
    inputs = ENTRIES[name]["inputs"]
    values = growth(inputs, dtype) if "classes_old" in inputs else outputs(inputs, dtype)
    for key, expected in ENTRIES[name]["expect"].items():
        assert_close(values[key], expected, tolerance, f"{name}: {key}")
    golden.CHECKED[f"forward entries in {precision}"] += 1


def clips(inputs: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return draw_clips(
        inputs["clips_seed"],
        inputs["batch"],
        inputs["spatial_tokens"],
        dtype,
        inputs.get("audio_scale", 1.0),
        inputs.get("visual_scale", 2.0),
    )


def outputs(inputs: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    layer = golden.LAYERS[inputs["head"]]
    network = draw_network(inputs["weights_seed"], inputs["modality"], inputs["classes"], dtype, layer)
    tokens = clips(inputs, dtype)
    output = network(*tokens)
    features = {
        "fused_feature": output.fused,
        "feature": output.fused,
        "audio_feature": output.audio,
        "visual_feature": output.visual,
    }
    values = {key: x for key, x in features.items() if x is not None}
    values |= {f"{key}_normalised": F.normalize(x, dim=1) for key, x in values.items()}
    values["logits"] = output.logits
    if output.attended is not None:
        maps = network.maps(*tokens)
        values["spatial_attention"], values["temporal_attention"] = maps.spatial, maps.temporal
        values["pooled_visual"] = output.attended.pooled
        tolerance = PRECISIONS[str(dtype).removeprefix("torch.")][1]
        assert_close(output.attended.pooled, maps.pooled.detach().tolist(), tolerance, "pooled")
    return values


def growth(inputs: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    network = draw_network(inputs["weights_seed"], "audio-visual", inputs["classes_old"], dtype)
    before = network(*clips(inputs, dtype)).logits
    network.grow(golden.new_layer(inputs["rows_seed"], LinearLayer, inputs["classes_new"]))
    return {"logits_before": before, "logits_after": network(*clips(inputs, dtype)).logits}
