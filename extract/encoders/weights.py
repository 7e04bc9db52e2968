"""Owns weight files as tables of tensors: reading them safely, fitting them into a module, their hashes.

Knows no published layout (`videomae_weights`, `audiomae_weights` do), no recipe and no clip. Nothing is
unpickled beyond tensors and plain containers (`weights_only=True`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avcil.errors import EncoderError

State = dict[str, Tensor]

HASH_BYTES = 2**24  # read at once
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # as Hugging Face names them, the better one first


@dataclass(frozen=True)
class WeightFile:
    """Parameters under our modules' names, as read from `path`, and what kind of file it is in words."""

    path: Path
    words: str
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
    """Read a table of tensors: a `.safetensors` file, or a torch file's `model`, `module` or the whole of it.

    Raises `EncoderError` for a file that is missing, or cannot be read without running code.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # Original checkpoints carry their command line, a Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EncoderError(f"{path}: no such weights file") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(f"{path}: not a weights file that can be read safely ({reason})") from error
    tables = (
        [content, *(content.get(key) for key in ("model", "module"))] if isinstance(content, dict) else []
    )
    for table in reversed(tables):
        if isinstance(table, dict) and table and all(isinstance(value, Tensor) for value in table.values()):
            if not all(isinstance(key, str) for key in table):
                raise EncoderError(f"{path}: the names of its tensors are not text")
            return table
    raise EncoderError(
        f"{path}: no table of tensors in it (looked at the top and under 'model' and 'module')"
    )


@contextmanager
def layout_of(path: Path, words: str) -> Iterator[None]:
    """Turn whatever a file of another layout makes its reader stumble over into one `EncoderError`."""
    try:
        yield
    except (ValueError, IndexError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(f"{path}: not laid out like {words} ({reason})") from error


def install(module: nn.Module, file: WeightFile) -> str:
    """Put a file's parameters into a module; returns the file in words.

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
    return file.words


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
