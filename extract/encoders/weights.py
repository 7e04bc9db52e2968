"""Weights: tables of tensors read safely from files or drawn at random, put into a module, and hashed.

Nothing is unpickled beyond tensors and plain containers (`weights_only=True`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avcil.cache.schema import WeightsOrigin
from avcil.errors import EncoderError
from avcil.files import first_line

State = dict[str, Tensor]

HASH_BYTES = 2**24  # read at once
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # as Hugging Face names them, the better one first
# Under what programs keep their tensors, and what they put before their names: DataParallel, torch.compile,
# Lightning, OpenMMLab.
TABLES = ("module", "model", "state_dict", "model_state_dict")
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")
_LISTED = " or ".join(map(repr, TABLES))
RANDOM_SEED = 0
RANDOM_PATCH_GAIN = 3.0  # of random patch filters against the positions added to them


@dataclass(frozen=True)
class WeightFile:
    """Parameters under our modules' names, as read from `path`.

    `format`: the published layout, in words; `name`: of the file, or of the folder where the format is one.
    """

    path: Path
    format: str
    name: str
    state: State

    @property
    def sha256(self) -> str:
        """The hash of the file itself, hexadecimal, as published beside weights."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while part := file.read(HASH_BYTES):
                digest.update(part)
        return digest.hexdigest()


def file_in(folder: Path) -> Path:
    """Find the weights in a folder; raises `EncoderError` where there are none."""
    path = next((folder / name for name in FOLDER_FILES if (folder / name).is_file()), None)
    if path is None:
        raise EncoderError(f"{folder}: neither {' nor '.join(FOLDER_FILES)} is in it")
    return path


def read_tensors(path: Path) -> State:
    """Read a table of tensors: a `.safetensors` file, or a torch file, whole or one of its `TABLES`.

    Names come without what programs put before them (`WRAPPERS`). Raises `EncoderError` for a file that is
    missing, cannot be read without running code, or holds something else beside its tensors.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content: object = load_file(path)
        else:
            # Original checkpoints carry their command line, a Namespace of plain values.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EncoderError(f"{path}: no such weights file") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise EncoderError(
            f"{path}: not a weights file that can be read safely ({_refused(error)})"
        ) from error
    table = _table(content)
    if not _has_tensors(table):
        raise EncoderError(f"{path}: no table of tensors in it, neither at the top nor under {_LISTED}")
    if not all(isinstance(key, str) for key in table):
        raise EncoderError(f"{path}: the names of its tensors are not text")
    if others := {key: value for key, value in table.items() if not isinstance(value, Tensor)}:
        key, value = next(iter(others.items()))
        raise EncoderError(
            f"{path}: {key!r} among its tensors is of type {type(value).__name__}; save them alone, "
            "as torch.save(model.state_dict(), FILE) does"
        )
    return _unwrapped(table, path)


def _table(content: object) -> dict[Any, Any]:
    """The table that holds the tensors: one that programs keep them in, at any depth, or the whole."""
    if not isinstance(content, dict):
        return {}
    inner = (_table(content.get(name)) for name in TABLES)
    return next((table for table in inner if _has_tensors(table)), content)


def _has_tensors(table: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in table.values())


def _unwrapped(table: State, path: Path) -> State:
    """Take away from the names what stands before them, as often as it does."""
    state: State = {}
    for name, value in table.items():
        while (wrapper := next(filter(name.startswith, WRAPPERS), None)) is not None:
            name = name.removeprefix(wrapper)
        if name in state:
            raise EncoderError(f"{path}: {name!r} is in it twice, under several of {', '.join(WRAPPERS)}")
        state[name] = value
    return state


def _refused(error: Exception) -> str:
    """What could not be read: of torch's pages of advice only the object that it refused."""
    if refused := re.search(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)", str(error)):
        return f"it holds a {refused[1]}, which is no tensor; save model.state_dict() alone"
    return first_line(error)


@contextmanager
def expected_layout(path: Path, words: str) -> Iterator[None]:
    """Turn whatever a file of another layout makes its reader stumble over into one `EncoderError`."""
    try:
        yield
    except (ValueError, IndexError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{path}: not laid out like {words} ({first_line(error)})") from error


def install(module: nn.Module, file: WeightFile) -> None:
    """Put a file's parameters into a module.

    Raises `EncoderError` listing missing and unexpected keys and wrong shapes.
    """
    own = module.state_dict()
    problems = [
        *_listed("missing", own.keys() - file.state.keys()),
        *_listed("unexpected", file.state.keys() - own.keys()),
        *_listed(
            "of another shape",
            (
                f"{key} {list(file.state[key].shape)} instead of {list(own[key].shape)}"
                for key in own.keys() & file.state.keys()
                if own[key].shape != file.state[key].shape
            ),
        ),
    ]
    if problems:
        raise EncoderError(f"{file.path}: the weights do not fit this encoder: {'; '.join(problems)}")
    module.load_state_dict({key: value.float() for key, value in file.state.items()})


def required_weights(modality: str, name: str, weights: str | None) -> str:
    """What one of our encoders is built with: `random`, a path, or a name on the hub.

    Raises `EncoderError` where none are given, or some for `demo`, which is random by design.
    """
    if name == "demo":
        if weights not in (None, "random"):
            raise EncoderError(
                f"the {modality} encoder 'demo' is random by design: leave out --{modality}-weights {weights}"
            )
        return "random"
    if weights is None:
        raise EncoderError(
            f"the {modality} encoder {name!r} needs its weights: give --{modality}-weights FILE, or "
            f"--{modality}-weights random to try the plumbing with random ones; FILE may be a name "
            "on the Hugging Face hub"
        )
    return weights


def fill_random(module: nn.Module, gain: float = 1.0, seed: int = RANDOM_SEED) -> WeightsOrigin:
    """Draw every weight anew, always the same for a seed, for trying a set-up and for the demo.

    Matrices are normal with deviation gain / sqrt(fan-in); a gain of 1 keeps a signal's size. Biases are 0,
    norms the identity, single vectors (the class token) normal with deviation 0.02.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        with torch.no_grad():
            if parameter.ndim == 2:
                parameter.normal_(0, gain * parameter.shape[1] ** -0.5, generator=generator)
            elif name == "class_token":
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(float("norm" in name and name.endswith("weight")))
    return WeightsOrigin("random", f"seed {seed}")


@torch.no_grad()
def strengthen_random_patches(embed: nn.Linear, channels: int | None = None) -> None:
    """Make random patch filters strong; with `channels`, also blind to the mean of each channel of a patch.

    Else position, the same in every clip, and brightness fill random tokens. On the demo's moving patterns a
    linear probe of the mean visual token rises from 0.65 to 0.83, and its sounds differ twice as much from
    each other. A patch of sound keeps its mean, which is its loudness.
    """
    if channels is None:
        embed.weight.mul_(RANDOM_PATCH_GAIN)
    else:
        filters = embed.weight.view(len(embed.weight), channels, -1)
        embed.weight.copy_(RANDOM_PATCH_GAIN * (filters - filters.mean(2, keepdim=True)).flatten(1))


def fingerprint(config: Mapping[str, Any], module: nn.Module) -> str:
    """Give the sha256 (hexadecimal) of a configuration and of all weights: what a token depends on."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous()
        digest.update((values.float() if values.is_floating_point() else values).numpy().tobytes())
    return digest.hexdigest()


def _listed(what: str, keys: Iterable[str]) -> list[str]:
    keys = sorted(keys)
    shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return [f"{what} {shown}"] if keys else []
