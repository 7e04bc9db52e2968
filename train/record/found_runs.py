"""Runs below folders, each with its numbers; needs no torch and no cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avcil.errors import RunError
from avcil.train.config import RunConfig
from avcil.train.record.journal import read_state
from avcil.train.record.results import Results
from avcil.train.record.run_folder import Run, is_run


@dataclass(frozen=True)
class FinishedRun:
    """A run with its numbers.

    Attributes:
        path: its folder.
        config: how it was trained.
        cache_fingerprint: of the tokens it was trained on.
        method_defaults: settings that its method has where none are given.
        result: its numbers, from its records.
    """

    path: Path
    config: RunConfig
    cache_fingerprint: str
    method_defaults: Mapping[str, Any]
    result: Results


@dataclass(frozen=True)
class FoundRuns:
    """The runs of some folders; `unfinished` says for each that is not how far it is."""

    finished: list[FinishedRun]
    unfinished: list[str]


def read_runs(paths: Iterable[Path]) -> FoundRuns:
    """The numbers of runs and of all runs in folders of runs; no cache is needed.

    Raises:
        RunError: a path is no run and holds none, or a run is damaged.
    """
    finished, unfinished = [], []
    for path in find_runs(paths):
        run = Run.open(path)
        steps = len(run.facts.step_sizes)
        if run.steps_done == steps:
            fingerprint = run.facts.cache_fingerprint
            defaults = run.facts.method_defaults
            finished.append(FinishedRun(path, run.config, fingerprint, defaults, run.results))
            continue
        state = read_state(path)
        within = f", epoch {state.epochs_done} of {state.epochs}" if state and state.epochs_done else ""
        unfinished.append(f"{path}: {run.steps_done} of {steps} steps are finished{within}")
    return FoundRuns(finished, unfinished)


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
