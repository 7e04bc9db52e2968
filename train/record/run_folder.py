"""Owns the files of a run: what is in the folder, how it is written whole or not at all.

    RUN/config.toml          the complete configuration; `avcil train --protocol RUN/config.toml` repeats it
    RUN/run.json             cache paths and fingerprint, what the tokens are, classes and steps, versions,
                             hardware, git revision
    RUN/step-00/             one folder per finished step: model.safetensors and record.json, and what the
                             method keeps beside the network, if anything, as readout.safetensors
    RUN/events.jsonl         one line per epoch, and
    RUN/state.json           how far the run is (`avcil.train.record.journal`)
    RUN/results.json         its numbers, once it is finished (`avcil.train.record.results`)

A step folder appears under its final name only when everything in it is written.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from avcil.cache import CacheInfo
from avcil.errors import CacheError, ConfigError, RunError
from avcil.files import remove_unfinished, write_folder, write_text
from avcil.train.config import RunConfig, differing_keys, to_toml
from avcil.train.loop import EpochRecord
from avcil.train.methods import find_method
from avcil.train.methods.head import Classifier
from avcil.train.network.fused_attention import FusedAttention, product_dtype
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.protocol_file import load_config
from avcil.train.record.environment import Environment
from avcil.train.record.journal import Journal
from avcil.train.record.records import RunFacts, StepRecord
from avcil.train.record.step_costs import PeakMemory, Stage


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
        if not is_run(path):
            raise RunError(f"{path} is not a run folder (no run.json in it); give the --out of avcil train")
        try:
            table = json.loads((path / "run.json").read_text(encoding="utf-8"))
            facts = RunFacts(
                caches=tuple(table["caches"]),
                cache_fingerprint=table["cache_fingerprint"],
                tokens=table["tokens"],
                classes=tuple(table["classes"]),
                step_sizes=tuple(table["step_sizes"]),
                memory=table["memory"],
                method_title=table["method_title"],
                method_defaults=table["method_defaults"],
                environment=Environment(**table["environment"]),
            )
            if not facts.step_sizes or sum(facts.step_sizes) != len(facts.classes):
                raise ValueError("run.json: step_sizes do not add up to the classes")
            return cls(path, load_config(str(path / "config.toml")), facts)
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"{path}: the run's files cannot be read ({reason}); put run.json and config.toml back, or "
                "train again into another --out"
            ) from error

    @classmethod
    def create_or_resume(cls, path: Path, config: RunConfig, facts: RunFacts) -> RunFolder:
        """Begin a run, or go on with the same one.

        Raises:
            RunError: the folder holds something else, or a run that differs in configuration or cache.
        """
        if not is_run(path):
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise RunError(f"{path} exists and is not a run; choose another --out")
            write_folder(path, lambda folder: _write_run_files(folder, config, facts))
            return cls(path, config, facts)
        run = cls.open(path)
        differing = differing_keys(config, run.config)
        if facts.cache_fingerprint != run.facts.cache_fingerprint:
            now, then = " ".join(facts.caches), " ".join(run.facts.caches)
            differing.append(f"the tokens or labels of the cache ({now}, then {then})")
        if not differing and facts.caches != run.facts.caches:  # moved, and the same by its fingerprint
            moved = replace(run.facts, caches=facts.caches)
            _write_run_files(path, config, moved)
            return cls(path, config, moved)
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
        except (CacheError, TypeError) as error:
            raise RunError(f'{self.path / "run.json"}: "tokens": {error}') from error

    @contextmanager
    def writing(self) -> Iterator[Journal]:
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
            remove_unfinished(self.path)
            steps, epochs = len(self.facts.step_sizes), self.config.training.epochs
            with closing(Journal(self.path, self.steps_done, steps, epochs)) as journal:
                yield journal
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

    def require_finished(self) -> None:
        """Refuse to go on with a run that lacks steps.

        Raises:
            RunError: it does.
        """
        steps = len(self.facts.step_sizes)
        if self.steps_done < steps:
            raise RunError(
                f"{self.path}: {self.steps_done} of {steps} steps are finished; give the same avcil train "
                "command again to finish it"
            )

    def save_step(
        self, network: AudioVisualNetwork, record: StepRecord, readout: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a finished step, whole or not at all; the time of writing the weights is added to it.

        `readout` is what is kept beside the network.
        """

        def write(folder: Path) -> None:
            began = time.monotonic()
            _save_tensors(folder / "model.safetensors", network.state_dict())
            if readout:
                _save_tensors(folder / "readout.safetensors", readout)
            spent = time.monotonic() - began
            stages: dict[Stage, float] = {**record.stages, "save": spent}
            saved = replace(record, stages=stages, seconds=record.seconds + spent)
            table = {"network": asdict(network.shape), "readout": sorted(readout or {}), **asdict(saved)}
            (folder / "record.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

        write_folder(self._step(record.step), write)

    def record(self, step: int) -> StepRecord:
        """What training recorded of step `step`.

        Raises:
            RunError: the step is not finished or its record is damaged.
        """
        table = self._record_table(step)
        try:
            parsed = {
                "epochs": [EpochRecord(**epoch) for epoch in table["epochs"]],
                "peak_memory": PeakMemory(**table["peak_memory"]),
            }
            own = {entry.name: table[entry.name] for entry in fields(StepRecord)}
            record = StepRecord(**own | parsed)
            seen = set(range(sum(self.facts.step_sizes[: step + 1])))
            whole = len(record.predicted) == len(record.true)
            if not whole or not set(record.predicted) <= seen == set(record.true):
                raise ValueError("its predictions are not of the clips of all classes seen")
            return record
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable(step, error) from error

    def network(self, step: int, device: torch.device) -> AudioVisualNetwork:
        """The selected network of step `step`, in the precision it was trained in."""
        method = find_method(self.config.method.name)
        try:
            network = AudioVisualNetwork(NetworkShape(**self._record_table(step)["network"]), method.layer)
            weights = safetensors.torch.load_file(self._step(step) / "model.safetensors")
            dtype = next((weight.dtype for weight in weights.values()), torch.float32)
            network.to(dtype).load_state_dict(weights)
        except (OSError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise self._unreadable(step, error) from error
        network.fused = FusedAttention(product_dtype(self.config.training.precision, device))
        return network.to(device)

    def kept(self, step: int, device: torch.device) -> dict[str, Tensor]:
        """What the method keeps of step `step` beside the network; {} where it keeps nothing."""
        path = self._step(step) / "readout.safetensors"
        try:
            if not self._record_table(step)["readout"]:
                return {}
            return safetensors.torch.load_file(path, device=str(device))
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise self._unreadable(step, error) from error

    def classifier(self, step: int, device: torch.device) -> Classifier:
        """How step `step` classifies, whatever its method: columns by head, by proxies, by nearest mean.

        Raises:
            RunError: the step is not finished or its files are damaged.
            ConfigError: the run's method is one of one's own and can no longer be found.
        """
        method = find_method(self.config.method.name)
        return Classifier(self.network(step, device), method.head(**self.kept(step, device)))

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


def is_run(path: Path) -> bool:
    """Whether there is a run at `path`, finished or not."""
    return (path / "run.json").is_file()


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The runs at `paths` and, where a path is a folder of runs, in it at any depth; each of them once.

    Raises:
        RunError: a path is no run and holds none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = [path] if is_run(path) else sorted(file.parent for file in path.glob("**/run.json"))
        # A name with a dot is one that is still being written.
        runs = [run for run in inside if run == path or not run.name.startswith(".")]
        if not runs:
            raise RunError(f"{path} is not a run folder and holds none; give the --out of avcil train")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _write_run_files(folder: Path, config: RunConfig, facts: RunFacts) -> None:
    write_text(folder / "config.toml", to_toml(config))
    write_text(folder / "run.json", json.dumps(asdict(facts), ensure_ascii=False, indent=1))


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Copies, because a file's tensors must not share memory, and a method's may.
    whole = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    path.write_bytes(safetensors.torch.save(whole))  # a full disk is an OSError, as for every other file
