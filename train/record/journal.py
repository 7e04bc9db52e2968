"""The journal of a run while it is trained: `events.jsonl` and `state.json`.

Both are for people and programs that watch. Training goes on from finished steps alone, so neither is ever
needed to resume.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from avcil.errors import RunError
from avcil.files import write_text
from avcil.tables import from_table, parse_json, read_json
from avcil.train.record.records import EpochRecord

EVENTS, STATE = "events.jsonl", "state.json"
STATE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class RunState:
    """How far a run is; all counts from 0 upwards.

    Attributes:
        steps_done: finished steps.
        steps: all steps.
        epochs_done: finished epochs of the step under way; 0 between steps.
        epochs: epochs of a step.
        updated: when this was written, ISO 8601 in UTC.
    """

    steps_done: int
    steps: int
    epochs_done: int
    epochs: int
    updated: str

    @property
    def finished(self) -> bool:
        """Every step is."""
        return self.steps_done == self.steps


class Journal:
    """Written by the one process that trains a run.

    One line of `events.jsonl` is one epoch: `step` and `epoch` from 0, `loss`, `terms`, `val_accuracy` and
    `time_s` since the step began. `state.json` is replaced at the end of a step and at most once a second
    within it. Opening brings both back to the finished steps, a line torn by a crash included.
    """

    def __init__(self, folder: Path, steps_done: int, steps: int, epochs: int) -> None:
        self._folder = folder
        self._steps_done, self._steps, self._epochs = steps_done, steps, epochs
        self._file: TextIOWrapper | None = None
        self._step_began = self._state_written = time.monotonic()
        if (folder / EVENTS).exists():
            _cut_back(folder / EVENTS, steps_done)
        state = read_state(folder)
        if state is None or (state.steps_done, state.epochs_done) != (steps_done, 0):
            self._write_state(0)  # its writer was killed

    def close(self) -> None:
        """Close the file of events."""
        if self._file is not None:
            self._file.close()

    def epoch(self, step: int, epoch: int, record: EpochRecord) -> None:
        """Note a finished epoch."""
        if self._file is None:
            self._file = (self._folder / EVENTS).open("a", encoding="utf-8")
        now = time.monotonic()
        event = {"step": step, "epoch": epoch, **asdict(record), "time_s": round(now - self._step_began, 4)}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        if now - self._state_written >= STATE_INTERVAL_S or epoch == 0:
            self._write_state(epoch + 1)

    def step_done(self) -> None:
        """Note a finished and saved step; the next one begins now."""
        self._steps_done += 1
        self._write_state(0)
        self._step_began = time.monotonic()

    def _write_state(self, epochs_done: int) -> None:
        updated = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        state = RunState(self._steps_done, self._steps, epochs_done, self._epochs, updated)
        write_text(self._folder / STATE, json.dumps({**asdict(state), "finished": state.finished}, indent=1))
        self._state_written = time.monotonic()


def read_state(folder: Path) -> RunState | None:
    """Where the run at `folder` is, None when it does not say."""
    try:
        table = read_json(folder / STATE, RunError)
        return from_table(RunState, {key: table[key] for key in table if key != "finished"}, RunError)
    except (RunError, TypeError):
        return None


def _cut_back(path: Path, steps_done: int) -> None:
    kept = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_event_before(line, steps_done):
                break
            kept += len(line)
    if kept < path.stat().st_size:
        os.truncate(path, kept)


def _is_event_before(line: bytes, step: int) -> bool:
    try:
        event: Any = parse_json(line)
        return bool(event["step"] < step)
    except (ValueError, KeyError, TypeError):
        return False
