"""Owns the files of a run: what is in the folder, how it is written whole or not at all.

    RUN/config.toml          the complete configuration; `avcil train --protocol RUN/config.toml` repeats it
    RUN/run.json             cache path, fingerprint and description of the tokens, protocol, versions
    RUN/step-00/             one folder per finished step: model.safetensors and record.json, and what the
                             method keeps beside the network, if anything, as readout.safetensors

A step folder appears under its final name only when everything in it is written.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

import avcil
from avcil.cache import CacheInfo
from avcil.errors import CacheError, ConfigError, RunError
from avcil.train.config import RunConfig, differing_keys, load_config, to_toml
from avcil.train.loop import EpochRecord
from avcil.train.methods import find_method
from avcil.train.model import AudioVisualNetwork, NetworkShape
from avcil.train.predict import Classifier


@dataclass(frozen=True)
class RunFacts:
    """What a run was made from, beside its configuration.

    `tokens` is what the cache says of itself, `CacheInfo.content`: with it new videos need no cache.
    """

    cache: str
    cache_fingerprint: str
    tokens: dict[str, Any]
    classes: tuple[str, ...]
    step_sizes: tuple[int, ...]
    memory: int


@dataclass(frozen=True)
class StepRecord:
    """What training recorded of one step.

    Attributes:
        step: t, from 0.
        train_clips: number of clips that drove the epochs; those of the memory are among them where the
            method joins the two.
        exemplars: clip ids of the memory that was replayed, by class label.
        kept: clip ids that the method chose for the next step's memory, by class label; empty where the
            exemplars are drawn at random before each step.
        best_epoch: the selected epoch, from 0; -1 when the method fitted nothing.
        epochs: losses and validation accuracy of every epoch.
        predicted: predicted column of every test clip of all classes seen, in set order.
        true: its true column.
        seconds: wall time of the step.
    """

    step: int
    train_clips: int
    exemplars: dict[str, list[str]]
    kept: dict[str, list[str]]
    best_epoch: int
    epochs: list[EpochRecord]
    predicted: list[int]
    true: list[int]
    seconds: float


class RunFolder:
    """A run on disk. Use `create_or_resume` to write and `open` to read."""

    def __init__(self, path: Path, config: RunConfig, facts: RunFacts) -> None:
        self.path = path
        self.config = config
        self.facts = facts

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            RunError: no run there, or its files cannot be read.
        """
        if not (path / "run.json").is_file():
            raise RunError(f"{path} is not a run folder (no run.json in it); give the --out of avcil train")
        try:
            table = json.loads((path / "run.json").read_text(encoding="utf-8"))
            facts = RunFacts(
                cache=table["cache"],
                cache_fingerprint=table["cache_fingerprint"],
                tokens=table["tokens"],
                classes=tuple(table["classes"]),
                step_sizes=tuple(table["step_sizes"]),
                memory=table["memory"],
            )
            return cls(path, load_config(str(path / "config.toml")), facts)
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise RunError(f"{path}: the run's files cannot be read ({error}); train it again") from error

    @classmethod
    def create_or_resume(cls, path: Path, config: RunConfig, facts: RunFacts) -> RunFolder:
        """Begin a run, or go on with the same one.

        Raises:
            RunError: the folder holds something else, or a run that differs in configuration or cache.
        """
        if not (path / "run.json").exists():
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise RunError(f"{path} exists and is not a run; choose another --out")
            _write_folder(path, lambda folder: _write_run_files(folder, config, facts))
            return cls(path, config, facts)
        run = cls.open(path)
        differing = differing_keys(config, run.config)
        if facts.cache_fingerprint != run.facts.cache_fingerprint:
            differing.append(f"the tokens or labels of the cache ({facts.cache}, then {run.facts.cache})")
        if not differing and facts.cache != run.facts.cache:  # moved, and the same by its fingerprint
            _write_run_files(path, config, facts)
            return cls(path, config, facts)
        if differing:
            raise RunError(
                f"{path} holds another run; it differs in {', '.join(differing)}. Choose another --out, or "
                "give the same options to go on with it"
            )
        return run

    @property
    def token_info(self) -> CacheInfo:
        """What the tokens are: recipe, encoders, shapes.

        Raises:
            RunError: `run.json` is damaged.
        """
        try:
            return CacheInfo.from_content(self.facts.tokens)
        except CacheError as error:
            raise RunError(f'{self.path / "run.json"}: "tokens": {error}') from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who adds steps, and take away what a killed writer left unfinished.

        Raises:
            RunError: another process is training this run.
        """
        fd = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"{self.path} is being trained by another process; wait for it or stop it"
                ) from error
            for leftover in self.path.glob(".*.partial-*"):
                shutil.rmtree(leftover)
            yield
        finally:
            os.close(fd)

    @property
    def steps_done(self) -> int:
        """Number of finished steps.

        Raises:
            RunError: a later step is there without an earlier one it was trained from.
        """
        steps = range(len(self.facts.step_sizes))
        done = next((t for t in steps if not self._step(t).is_dir()), len(steps))
        later = [self._step(t).name for t in steps[done:] if self._step(t).exists()]
        if later:
            raise RunError(
                f"{self._step(done)} is missing but {later[0]} is there; delete {', '.join(later)} to train "
                "those steps again"
            )
        return done

    def save_step(
        self, network: AudioVisualNetwork, record: StepRecord, readout: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a finished step, whole or not at all; `readout` is what is kept beside the network."""

        def write(folder: Path) -> None:
            _save_tensors(folder / "model.safetensors", network.state_dict())
            if readout:
                _save_tensors(folder / "readout.safetensors", readout)
            table = {"network": asdict(network.shape), **asdict(record)}
            (folder / "record.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

        _write_folder(self._step(record.step), write)

    def record(self, step: int) -> StepRecord:
        """What training recorded of step `step`.

        Raises:
            RunError: the step is not finished or its record is damaged.
        """
        table = self._record_table(step)
        try:
            epochs = [EpochRecord(**epoch) for epoch in table["epochs"]]
            rest = {key: value for key, value in table.items() if key not in ("network", "epochs")}
            return StepRecord(epochs=epochs, **rest)
        except (KeyError, TypeError) as error:
            raise self._unreadable(step, error) from error

    def network(self, step: int, device: torch.device) -> AudioVisualNetwork:
        """The selected network of step `step`, in the precision it was trained in."""
        try:
            network = AudioVisualNetwork(NetworkShape(**self._record_table(step)["network"]))
            weights = safetensors.torch.load_file(self._step(step) / "model.safetensors")
            network.to(next(iter(weights.values())).dtype).load_state_dict(weights)
        except (OSError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise self._unreadable(step, error) from error
        return network.to(device)

    def kept(self, step: int, device: torch.device) -> dict[str, Tensor]:
        """What the method keeps of step `step` beside the network; {} where it keeps nothing."""
        path = self._step(step) / "readout.safetensors"
        try:
            return safetensors.torch.load_file(path, device=str(device)) if path.exists() else {}
        except (OSError, safetensors.SafetensorError) as error:
            raise self._unreadable(step, error) from error

    def classifier(self, step: int, device: torch.device) -> Classifier:
        """How step `step` classifies, whatever its method: columns by head, by proxies, by nearest mean.

        Raises:
            RunError: the step is not finished or its files are damaged.
            ConfigError: the run's method is one of one's own and can no longer be found.
        """
        method = find_method(self.config.method, self.config.modality)
        return Classifier(self.network(step, device), method.readout.scores, self.kept(step, device))

    def _step(self, step: int) -> Path:
        return self.path / f"step-{step:02d}"

    def _record_table(self, step: int) -> dict[str, Any]:
        try:
            table = json.loads((self._step(step) / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._unreadable(step, error) from error
        if not isinstance(table, dict):
            raise self._unreadable(step, TypeError("record.json holds no object"))
        return table

    def _unreadable(self, step: int, error: Exception) -> RunError:
        reason = " ".join(str(error).split())
        return RunError(
            f"{self._step(step)} cannot be read ({reason}); delete it and all later steps and train again"
        )


def _write_run_files(folder: Path, config: RunConfig, facts: RunFacts) -> None:
    versions = {"avcil": avcil.__version__, "torch": torch.__version__, "python": platform.python_version()}
    table = {**asdict(facts), "versions": versions}
    texts = {"config.toml": to_toml(config), "run.json": json.dumps(table, ensure_ascii=False, indent=1)}
    for name, text in texts.items():
        built = folder / f".{name}.tmp"
        built.write_text(text, encoding="utf-8")
        built.replace(folder / name)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    safetensors.torch.save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)


def _write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside `path` and rename it, so that `path` is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        write(partial)
        for written in partial.iterdir():
            with written.open("rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            path.rmdir()  # only ever an empty folder that the user made
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
