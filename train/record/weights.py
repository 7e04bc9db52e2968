"""The tensors of a run's steps: `model.safetensors`, and what the method keeps as `readout.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from avcil.train.methods import find_method
from avcil.train.network.fused_attention import FusedAttention
from avcil.train.network.inference import Classifier
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.plan import product_dtype
from avcil.train.record.records import StepRecord
from avcil.train.record.run_folder import RunFolder


def save_step(
    run: RunFolder,
    network: AudioVisualNetwork,
    record: StepRecord,
    readout: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a finished step, whole or not at all; `readout` is what is kept beside the network."""

    def write(folder: Path) -> dict[str, Any]:
        _save_tensors(folder / "model.safetensors", network.state_dict())
        if readout:
            _save_tensors(folder / "readout.safetensors", readout)
        return {"network": asdict(network.shape), "readout": sorted(readout or {})}

    run.save_step(record, write)


def load_network(run: RunFolder, step: int, device: torch.device) -> AudioVisualNetwork:
    """The selected network of step `step`, in the precision it was trained in.

    Raises:
        RunError: the step is not finished or its files are damaged.
    """
    try:
        network = AudioVisualNetwork(NetworkShape(**run.record_table(step)["network"]))
        weights = safetensors.torch.load_file(run.step_path(step) / "model.safetensors")
        network.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    except (OSError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise run.unreadable(step, error) from error
    network.fused = FusedAttention(product_dtype(run.config.training.precision, device))
    return network.to(device)


def load_readout(run: RunFolder, step: int, device: torch.device) -> dict[str, Tensor]:
    """What the method keeps of step `step` beside the network; {} where it keeps nothing.

    Raises:
        RunError: the step is not finished or its files are damaged.
    """
    try:
        if not run.record_table(step)["readout"]:
            return {}
        return safetensors.torch.load_file(run.step_path(step) / "readout.safetensors", device=str(device))
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise run.unreadable(step, error) from error


def load_classifier(run: RunFolder, step: int, device: torch.device) -> Classifier:
    """How step `step` classifies, whatever its method: columns by head, by proxies, by nearest mean.

    Raises:
        RunError: the step is not finished or its files are damaged.
        ConfigError: the run's method is one of one's own and can no longer be found.
    """
    method = find_method(run.config.method, run.config.modality)
    return Classifier(load_network(run, step, device), method.readout.scores, load_readout(run, step, device))


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Copies, because a file's tensors must not share memory, and a method's may.
    whole = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    path.write_bytes(safetensors.torch.save(whole))  # a full disk is an OSError, as for every other file
