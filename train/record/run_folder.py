"""The folder of a run, as far as it is text: configuration, facts and step records; needs no torch.

    RUN/config.toml          the complete configuration; `avcil train --protocol RUN/config.toml` repeats it
    RUN/run.json             version of this format, cache paths and fingerprint, what the tokens are, classes
                             and steps, software versions, hardware, git revision
    RUN/step-00/             one folder per finished step: record.json, and its tensors
                             (`avcil.train.record.weights`)
    RUN/events.jsonl         one line per epoch, and
    RUN/state.json           how far the run is (`avcil.train.record.journal`)
    RUN/results.json         its numbers, for people and other programs (`avcil.train.record.results`)

A step folder appears under its final name only when everything in it is written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avcil.errors import CacheError, ConfigError, RunError
from avcil.files import locked, remove_unfinished, write_folder, write_text
from avcil.tables import from_table, read_json, shown
from avcil.train.config import RunConfig, differing_keys, to_toml
from avcil.train.protocol_file import load_config
from avcil.train.record.journal import Journal
from avcil.train.record.records import RunFacts, SavedStep, Stage, StepRecord
from avcil.train.record.results import Results, StepPredictions, measure, to_json

if TYPE_CHECKING:
    from avcil.cache import CacheInfo

RESULTS = "results.json"
# Of run.json, config.toml and record.json. 1, of versions up to 0.1, did not say so; 2 did not say what of a
# clip's tokens is used, nor how many bytes are kept.
FORMAT = 3


class Run:
    """A run on disk. Use `create_or_resume` to write and `open` to read.

    Attributes:
        path: its folder.
        config: what was asked for.
        facts: what it was made from.
    """

    def __init__(self, path: Path, config: RunConfig, facts: RunFacts) -> None:
        self.path = path
        self.config = config
        self.facts = facts

    def __repr__(self) -> str:
        steps = len(self.facts.step_sizes)
        what = f"{self.facts.method_title}, {self.config.modality}, {len(self.facts.classes)} classes"
        if self.steps_done < steps:
            return f"<Run {self.path}: {what}, {self.steps_done} of {steps} steps are finished>"
        return f"<Run {self.path}: {what}, {self.results.summary}>"

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """An existing run.

        Raises:
            RunError: no run there, or its files cannot be read.
        """
        path = Path(path)
        if not is_run(path):
            raise RunError(f"{path} is not a run folder (no run.json in it); give the --out of avcil train")
        remedy = "put run.json and config.toml back, or train again into another --out"
        with _damage(f"{path}: the run's files cannot be read", remedy):
            table = read_json(path / "run.json", RunError)
            found = table.pop("format", 1) if isinstance(table, dict) else FORMAT
            if found == FORMAT:
                facts = from_table(RunFacts, table, RunError, where="run.json")
                return cls(path, load_config(str(path / "config.toml")), facts)
        raise RunError(
            f"{path}: written by another version of avcil (run format {shown(found)}, this one has "
            f"{FORMAT}); train again into another --out, or go on with it in the version that wrote it"
        )

    @classmethod
    def create_or_resume(cls, path: Path, config: RunConfig, facts: RunFacts) -> Run:
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
        from avcil.cache import CacheInfo  # and with it numpy

        try:
            return CacheInfo.from_content(self.facts.tokens)
        except CacheError as error:
            raise RunError(f"{self.path / 'run.json'}: tokens: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[Journal]:
        """Be the only one who adds steps, and take away what a killed writer left unfinished.

        Raises:
            RunError: another process is training this run.
        """
        busy = RunError(f"{self.path} is being trained by another process; wait for it or stop it")
        with locked(self.path, busy):
            remove_unfinished(self.path)
            steps, epochs = len(self.facts.step_sizes), self.config.training.epochs
            with closing(Journal(self.path, self.steps_done, steps, epochs)) as journal:
                yield journal

    @property
    def steps_done(self) -> int:
        """Number of finished steps.

        Raises:
            RunError: a later step is there without an earlier one it was trained from.
        """
        steps = range(len(self.facts.step_sizes))
        done = next((t for t in steps if not self.step_path(t).is_dir()), len(steps))
        later = [self.step_path(t).name for t in steps[done:] if self.step_path(t).exists()]
        if later:
            raise RunError(
                f"{self.step_path(done)} is missing but {later[0]} is there; delete {', '.join(later)} to "
                "train those steps again"
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

    @property
    def results(self) -> Results:
        """The numbers of a finished run, from what training recorded; needs no cache.

        Raises:
            RunError: the run is unfinished or a record is damaged.
        """
        self.require_finished()
        records = [self.record(step) for step in range(self.steps_done)]
        by_step = [StepPredictions(one.predicted, one.true) for one in records]
        return measure(self.config, self.facts, records, by_step)

    def write_results(self) -> None:
        """Write `results.json` of a finished run, unless it is there: for people and other programs alone.

        Raises:
            RunError: as `results`.
        """
        path, text = self.path / RESULTS, to_json(self.results, timed=False)
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_text(path, text)

    def save_step(self, record: StepRecord, write_tensors: Callable[[Path], dict[str, Any]]) -> None:
        """Write a finished step, whole or not at all.

        Args:
            record: of the step; the time of writing the tensors is added to it.
            write_tensors: writes them into the folder it is given, returns what `record.json` says of them.
        """

        def write(folder: Path) -> None:
            began = time.monotonic()
            tensors = write_tensors(folder)
            spent = time.monotonic() - began
            stages: dict[Stage, float] = {**record.stages, "save": spent}
            saved = replace(record, stages=stages, seconds=record.seconds + spent)
            table = tensors | asdict(saved)
            (folder / "record.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

        write_folder(self.step_path(record.step), write)

    def record(self, step: int) -> SavedStep:
        """What training recorded of step `step`.

        Raises:
            RunError: the step is not finished or its record is damaged.
        """
        with self.reading_step(step):
            table = read_json(self.step_path(step) / "record.json", RunError)
            record = from_table(SavedStep, table, RunError, where="record.json")
            classes = self.facts.classes[: self.facts.seen(step)]
            columns, labels = set(range(len(classes))), set(classes)
            if not set(record.predicted) <= columns == set(record.true):
                raise RunError("record.json: its predictions are not of the clips of all classes seen")
            if record.step != step:
                raise RunError(f"record.json: step = {record.step}; expected {step}")
            if others := sorted((record.exemplars.keys() | record.kept.keys()) - labels):
                raise RunError(
                    f"record.json: exemplars of {shown(others[0])}, which is none of the classes seen"
                )
            return record

    def step_path(self, step: int) -> Path:
        """The folder of step `step`, finished or not."""
        return self.path / f"step-{step:02d}"

    @contextmanager
    def reading_step(self, step: int) -> Iterator[None]:
        """Raise a `RunError` of a damaged file of step `step` as one that says what to do."""
        remedy = "delete it and all later steps and train again"
        with _damage(f"{self.step_path(step)} cannot be read", remedy):
            yield


def is_run(path: Path) -> bool:
    """Whether there is a run at `path`, finished or not."""
    return (path / "run.json").is_file()


@contextmanager
def _damage(what: str, remedy: str) -> Iterator[None]:
    """Raise what is wrong inside a file as a `RunError` that says what that means and what to do."""
    try:
        yield
    except (RunError, ConfigError) as error:
        raise RunError(f"{what} ({' '.join(str(error).split())}); {remedy}") from error


def _write_run_files(folder: Path, config: RunConfig, facts: RunFacts) -> None:
    write_text(folder / "config.toml", to_toml(config))
    table = {"format": FORMAT, **asdict(facts)}
    write_text(folder / "run.json", json.dumps(table, ensure_ascii=False, indent=1))
