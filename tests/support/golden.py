"""Draws the inputs of the reference numbers and compares with them.

All draws come from numpy's PCG64 in float64 and are cast once to float32.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avcil.train.config import Modality
from avcil.train.methods.proxies import ProxyLayer
from avcil.train.network.layers import LinearLayer, OutputLayer
from avcil.train.network.model import AudioVisualNetwork, NetworkShape

FILES = ("forward", "losses", "trajectory", "exemplars")
CHECKED: Counter[str] = Counter()  # what the tests have compared, for the summary at the end of a session
ENTRY = {"inputs", "expect", "f32_maxdiff", "f32_maxscaled", "min_distance_gap"}  # keys of an entry
WIDTH = 768
FRAMES = 8
PARAMETERS = {
    "Wa": "audio_projection.weight",
    "ba": "audio_projection.bias",
    "Wv": "visual_projection.weight",
    "bv": "visual_projection.bias",
    "Wpa": "audio_attention.weight",
    "bpa": "audio_attention.bias",
    "Wpv": "visual_attention.weight",
    "bpv": "visual_attention.bias",
    "Wc": "classifier.weight",
    "bc": "classifier.bias",
    "P": "classifier.new",
    "P_old": "classifier.old",
    "P_new": "classifier.new",
    "factor": "classifier.scale",
}
LAYERS: dict[str, type[OutputLayer]] = {"linear": LinearLayer, "lsc": ProxyLayer}
BODY = ("Wa", "ba", "Wv", "bv", "Wpa", "bpa", "Wpv", "bpv")
SINGLE = {"audio": BODY[:2], "visual": BODY[2:4]}


def golden_folder() -> Path:
    return Path(os.environ.get("AVCIL_GOLDEN") or Path(__file__).parents[1] / "golden")


def load_golden(name: str) -> dict[str, Any]:
    """One file of the reference set; {} where another set (`AVCIL_GOLDEN`) holds only other files."""
    folder = golden_folder()
    plain, packed = folder / f"{name}.json", folder / f"{name}.json.gz"
    if not (plain.is_file() or packed.is_file()):
        others = [file for file in FILES if list(folder.glob(f"{file}.json*"))]
        assert "AVCIL_GOLDEN" in os.environ and others, f"{folder} holds none of {', '.join(FILES)}"
        return {}
    text = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
    table: dict[str, Any] = json.loads(text)
    return table


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def uniform(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return ((2 * generator.random(shape) - 1) / np.sqrt(WIDTH)).astype(np.float32)


def normal(
    generator: np.random.Generator, *shape: int, scale: float = 1.0, shift: float = 0.0
) -> NDArray[np.float32]:
    return (scale * generator.standard_normal(shape) + shift).astype(np.float32)


def draw_data_set(data: dict[str, Any]) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The clips of a tiny data set (`config.data` of a group of trajectories): id -> audio, visual."""
    generator, space, classes = rng(data["seed"]), data["s"], len(data["sizes"]["train"])
    mean_audio = data["sep_a"] * generator.standard_normal((classes, WIDTH))
    mean_visual = data["sep_v"] * generator.standard_normal((classes, WIDTH))
    clips = {}
    for split in ("train", "val", "test"):
        for label in range(classes):
            for index in range(data["sizes"][split][label]):
                e_a, e_u = generator.standard_normal(WIDTH), generator.standard_normal(WIDTH)
                e_t = generator.standard_normal((FRAMES, space, WIDTH))
                audio = mean_audio[label] + data["noise_a"] * e_a
                visual = mean_visual[label] + data["noise_u"] * e_u + data["noise_t"] * e_t
                clips[f"{split}_c{label:02d}_{index:03d}"] = audio.astype("f4"), visual.astype("f4")
    return clips


def unit_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = x.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def tensor(x: NDArray[Any], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).to(dtype)


@cache
def network_arrays(
    seed: int, modality: Modality, classes: int, layer: type[OutputLayer] = LinearLayer
) -> dict[str, NDArray[np.float32]]:
    generator, arrays = rng(seed), {}
    for name in SINGLE.get(modality, BODY):
        arrays[name] = uniform(generator, WIDTH, WIDTH) if name[0] == "W" else uniform(generator, WIDTH)
    if layer is ProxyLayer:
        return arrays | {"P": normal(generator, 10 * classes, WIDTH, scale=WIDTH**-0.5)}
    return arrays | {"Wc": uniform(generator, classes, WIDTH), "bc": uniform(generator, classes)}


def network_from(
    arrays: dict[str, NDArray[np.float32]], modality: Modality, dtype: torch.dtype
) -> AudioVisualNetwork:
    layer: type[OutputLayer] = ProxyLayer if "P" in arrays else LinearLayer
    classes = len(arrays["P"]) // 10 if "P" in arrays else len(arrays["bc"])
    network = AudioVisualNetwork(NetworkShape(modality, WIDTH, WIDTH, classes), layer).to(dtype)
    with torch.no_grad():
        for name, array in arrays.items():
            network.get_parameter(PARAMETERS[name]).copy_(torch.from_numpy(array))
    return network


def draw_network(
    seed: int, modality: Modality, classes: int, dtype: torch.dtype, layer: type[OutputLayer] = LinearLayer
) -> AudioVisualNetwork:
    return network_from(network_arrays(seed, modality, classes, layer), modality, dtype)


def draw_teacher(
    student: AudioVisualNetwork,
    seed: int,
    mix: float | None,
    classes: int,
) -> AudioVisualNetwork:
    """The layers of `student`, drawn in float32, plus `mix` times a draw; the output layer is a draw."""
    modality, layer = student.shape.modality, type(student.classifier)
    arrays = dict(network_arrays(seed, modality, classes, layer))
    if mix is not None:
        for name in SINGLE.get(modality, BODY):
            layer = student.get_parameter(PARAMETERS[name]).detach().double().numpy()
            arrays[name] = (layer + mix * arrays[name].astype(np.float64)).astype(np.float32)
    return network_from(arrays, modality, student.dtype)


def new_layer(seed: int, kind: type[OutputLayer], classes: int) -> OutputLayer:
    generator = rng(seed)
    with torch.no_grad():
        if kind is ProxyLayer:
            proxies = ProxyLayer(WIDTH, classes)
            drawn = normal(generator, 10 * classes, WIDTH, scale=WIDTH**-0.5)
            proxies.new.copy_(tensor(drawn, torch.float32))
            return proxies
        rows = LinearLayer(WIDTH, classes)
        rows.weight.copy_(tensor(uniform(generator, classes, WIDTH), torch.float32))
        rows.bias.copy_(tensor(uniform(generator, classes), torch.float32))
        return rows


def draw_clips(
    seed: int, count: int, space: int, dtype: torch.dtype, audio_scale: float = 1.0, visual_scale: float = 2.0
) -> tuple[Tensor, Tensor]:
    generator = rng(seed)
    audio = normal(generator, count, WIDTH, scale=audio_scale)
    visual = normal(generator, count, FRAMES * space, WIDTH, scale=visual_scale)
    return tensor(audio, dtype), tensor(visual, dtype).reshape(count, FRAMES, space, WIDTH)


def summary(x: Tensor) -> dict[str, Any]:
    flat = x.detach().double().flatten().numpy()
    probes = [int(np.floor(k * (len(flat) - 1) / 7)) for k in range(8)]
    return {
        "shape": list(x.shape),
        "first8": flat[:8].tolist(),
        "probe8": flat[probes].tolist(),
        "l2": float(np.linalg.norm(flat)),
        "sum": float(flat.sum()),
        "cosfp": float((flat * np.cos(np.arange(len(flat)))).sum()),
    }


def assert_close(actual: Any, expected: Any, tolerance: float, where: str) -> None:
    """|actual - expected| <= tolerance * (1 + |expected|), through lists and summaries."""
    if isinstance(expected, dict):
        measured = summary(actual) if isinstance(actual, Tensor) else actual
        for key, value in expected.items():
            assert_close(measured[key], value, tolerance, f"{where}.{key}")
        return
    one, other = np.asarray(_plain(actual), np.float64), np.asarray(expected, np.float64)
    assert one.shape == other.shape, f"{where}: shape {one.shape}, expected {other.shape}"
    excess = np.abs(one - other) / (1 + np.abs(other))
    assert excess.max(initial=0.0) <= tolerance, f"{where}: off by {excess.max():.3g}, allowed {tolerance:g}"


def _plain(x: Any) -> Any:
    return x.detach().double().numpy() if isinstance(x, Tensor) else x
