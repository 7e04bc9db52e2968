"""The tensors of a run's steps: `model.safetensors`, and what the head keeps as `head.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from avcil.train.methods import find_method
from avcil.train.methods.head import Classifier
from avcil.train.network.fused_attention import FusedAttention
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.plan import product_dtype
from avcil.train.record.records import StepRecord
from avcil.train.record.run_folder import Run


def save_step(run: Run, classifier: Classifier, record: StepRecord) -> None:
    """Write a finished step, whole or not at all."""
    network, kept = classifier.network, classifier.head.state()

    def write(folder: Path) -> dict[str, Any]:
        _save_tensors(folder / "model.safetensors", network.state_dict())
        if kept:
            _save_tensors(folder / "head.safetensors", kept)
        return {"network": asdict(network.shape), "head": sorted(kept)}

    run.save_step(record, write)


def load_network(run: Run, step: int, device: torch.device) -> AudioVisualNetwork:
    """The selected network of step `step`, in the precision it was trained in.

    Raises:
        RunError: the step is not finished or its files are damaged.
        ConfigError: the run's method is one of one's own and can no longer be found.
    """
    method, _ = find_method(run.config.method.name).configured(run.config.method.settings)
    try:
        network = AudioVisualNetwork(NetworkShape(**run.record_table(step)["network"]), method.layer)
        weights = safetensors.torch.load_file(run.step_path(step) / "model.safetensors")
        dtype = next((weight.dtype for weight in weights.values()), network.dtype)
        network.to(dtype).load_state_dict(weights)
    except (OSError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise run.unreadable(step, error) from error
    network.fused = FusedAttention(product_dtype(run.config.training.precision, device))
    return network.to(device)


def load_classifier(run: Run, step: int, device: torch.device) -> Classifier:
    """How step `step` classifies, whatever its method: its network and its head.

    Raises:
        RunError: the step is not finished or its files are damaged.
        ConfigError: the run's method is one of one's own and can no longer be found.
    """
    network, kept = load_network(run, step, device), {}
    try:
        if run.record_table(step)["head"]:
            path = run.step_path(step) / "head.safetensors"
            kept = safetensors.torch.load_file(path, device=str(device))
        method, settings = find_method(run.config.method.name).configured(run.config.method.settings)
        return Classifier(network, method.head.restored(settings, kept))
    except (OSError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise run.unreadable(step, error) from error


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Copies, because a file's tensors must not share memory, and a method's may.
    whole = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    path.write_bytes(safetensors.torch.save(whole))  # a full disk is an OSError, as for every other file
