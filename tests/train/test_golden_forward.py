"""The network against the published program's outputs."""

import pytest
import torch
import torch.nn.functional as F
from support.golden import assert_close, draw_clips, draw_network, load_golden, new_rows

ENTRIES = load_golden("forward")
# The proxy head belongs to methods that are not here yet.
LINEAR = [name for name, entry in ENTRIES.items() if entry["inputs"].get("head") == "linear"]
GROWTH = [name for name, entry in ENTRIES.items() if "classes_old" in entry["inputs"]]
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def test_entries_are_found() -> None:
    assert bool(LINEAR or GROWTH) == bool(ENTRIES)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", LINEAR)
def test_forward(name: str, dtype: torch.dtype, tolerance: float) -> None:
    inputs, expect = ENTRIES[name]["inputs"], ENTRIES[name]["expect"]
    network = draw_network(inputs["weights_seed"], inputs["modality"], inputs["classes"], dtype)
    audio, visual = draw_clips(
        inputs["clips_seed"],
        inputs["batch"],
        inputs["spatial_tokens"],
        dtype,
        inputs.get("audio_scale", 1.0),
        inputs.get("visual_scale", 2.0),
    )
    output = network(audio, visual)
    values = {"logits": output.logits, "fused_feature": output.fused, "feature": output.fused}
    if output.audio is not None:
        values["audio_feature"] = output.audio
    if output.visual is not None:
        values["visual_feature"] = output.visual
    values |= {f"{key}_normalised": F.normalize(x, dim=1) for key, x in values.items() if key != "logits"}
    if output.attended is not None:
        values["spatial_attention"] = output.attended.spatial
        values["temporal_attention"] = output.attended.temporal
        values["pooled_visual"] = output.attended.pooled
    for key, expected in expect.items():
        assert_close(values[key], expected, tolerance, f"{name}: {key}")


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", GROWTH)
def test_classifier_growth(name: str, dtype: torch.dtype, tolerance: float) -> None:
    inputs, expect = ENTRIES[name]["inputs"], ENTRIES[name]["expect"]
    network = draw_network(inputs["weights_seed"], "audio-visual", inputs["classes_old"], dtype)
    clips = draw_clips(inputs["clips_seed"], inputs["batch"], inputs["spatial_tokens"], dtype)
    assert_close(network(*clips).logits, expect["logits_before"], tolerance, f"{name}: before")
    network.grow(new_rows(inputs["rows_seed"], inputs["classes_new"]))
    assert_close(network(*clips).logits, expect["logits_after"], tolerance, f"{name}: after")
