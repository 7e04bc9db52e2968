"""The tensors of a run's steps: `model.safetensors`, and what the head keeps as `head.safetensors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from avcil.errors import ConfigError, RunError
from avcil.files import first_line
from avcil.tables import from_table, shown
from avcil.train.methods import find_method
from avcil.train.methods.head import Classifier
from avcil.train.methods.method import Method
from avcil.train.network.fused_attention import FusedAttention
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.plan import product_dtype
from avcil.train.record.records import StepRecord
from avcil.train.record.run_folder import Run
from avcil.train.tokens.batches import ResidentTokens, StepTokens
from avcil.train.tokens.loading import TokenNeeds, as_needed

MAX_REASON = 300  # characters: a network lists every weight that it misses


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
    (method, _), shape = _method(run), _shape(run, step)
    with run.reading_step(step), _tensor_errors("model.safetensors"):
        weights = safetensors.torch.load_file(run.step_path(step) / "model.safetensors")
        if method.layer is not None:
            _check_sizes(shape, weights)
        network = AudioVisualNetwork(shape, method.layer)
        dtype = next((weight.dtype for weight in weights.values()), network.dtype)
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"the weights are {dtype}, expected float32 or float64")
        network.to(dtype).load_state_dict(weights)
    network.fused = FusedAttention(product_dtype(run.config.training.precision, device))
    return network.to(device)


def load_classifier(run: Run, step: int, device: torch.device) -> Classifier:
    """How step `step` classifies, whatever its method: its network and its head.

    Raises:
        RunError: the step is not finished or its files are damaged.
        ConfigError: the run's method is one of one's own and can no longer be found.
    """
    network, names, kept = load_network(run, step, device), run.record(step).head, {}
    method, settings = _method(run)
    path = run.step_path(step) / "head.safetensors"
    with run.reading_step(step), _tensor_errors(path.name):
        if names or path.exists():
            kept = safetensors.torch.load_file(path, device=str(device))
        if sorted(kept) != names:
            raise ValueError(f"it holds {sorted(kept)}, record.json names {names}")
        classifier = Classifier(network, method.head.restored(settings, kept))
        _check_scores(run, classifier, device)
    return classifier


def as_seen(run: Run, audio: Tensor, visual: Tensor, device: torch.device) -> StepTokens:
    """What a run's classifiers use of the tokens [n, D] and [n, T, S, D] of clips; raises `RunError`."""
    where = str(run.path / "run.json")
    needs = from_table(TokenNeeds, run.facts.needs, RunError, where=where, key="needs")
    seen = ResidentTokens(audio if needs.audio else None, None if needs.visual == "none" else visual)
    return as_needed(seen, needs, run.token_info, device)


def _method(run: Run) -> tuple[Method, Any]:
    """The run's method as its settings make it, and these; raises `ConfigError`."""
    try:
        return find_method(run.config.method.name).configured(run.config.method.settings)
    except ConfigError as error:
        raise ConfigError(f"{run.path / 'config.toml'}: {error}") from error


def _shape(run: Run, step: int) -> NetworkShape:
    """The shape of a step's network: what the record says of it is what the run was trained with.

    Raises:
        RunError: it is not.
    """
    stated, tokens = run.record(step).network, run.token_info
    classes, old = run.facts.seen(step), stated.get("old_classes")
    shape = NetworkShape(
        run.config.modality,
        audio_width=tokens.audio.shape[-1],
        visual_width=tokens.visual.shape[-1],
        classes=classes,
        attention=run.config.network.attention,
        old_classes=old if type(old) is int and 0 <= old <= classes else 0,
    )
    with run.reading_step(step):
        for key, value in asdict(shape).items():
            if stated.get(key) != value:
                raise RunError(
                    f"record.json: network.{key} = {shown(stated.get(key))}; in this run it is {value}"
                )
    return shape


def _check_sizes(shape: NetworkShape, weights: Mapping[str, Tensor]) -> None:
    """Refuse a shape that is not that of the weights, before memory is taken for it.

    Raises:
        ValueError: it is not; the classifier, whose layer may be anyone's, is not compared.
    """
    with torch.device("meta"):
        expected = AudioVisualNetwork(shape).state_dict()
    for name, parameter in expected.items():
        if name.startswith("classifier."):
            continue
        if name not in weights or weights[name].shape != parameter.shape:
            found = list(weights[name].shape) if name in weights else "missing"
            raise ValueError(f"{name} is {found}, expected {list(parameter.shape)}")


def _check_scores(run: Run, classifier: Classifier, device: torch.device) -> None:
    """Classify a clip of zeros: only a head itself knows what shapes its tensors have.

    Raises:
        ValueError: that gives no score for every class.
    """
    tokens, classes = run.token_info, classifier.network.shape.classes
    audio = torch.zeros(1, *tokens.audio.shape, device=device)
    visual = torch.zeros(1, *tokens.visual.shape, device=device)
    try:
        scores = classifier.scores(as_seen(run, audio, visual, device))
    except RunError:
        raise
    except Exception as error:  # whatever arithmetic makes of tensors that do not fit
        raise ValueError(f"the tensors cannot classify: {first_line(error)}") from error
    if scores.shape != (1, classes) or not scores.is_floating_point():
        raise ValueError(f"the tensors give {scores.dtype} scores {list(scores.shape)} for {classes} classes")


@contextmanager
def _tensor_errors(name: str) -> Iterator[None]:
    """Raise what loading tensors from a file may raise as a `RunError` that names it."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"{name}: {' '.join(str(error).split())[:MAX_REASON]}") from error


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Copies, because a file's tensors must not share memory, and a method's may.
    whole = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    path.write_bytes(safetensors.torch.save(whole))  # a full disk is an OSError, as for every other file
