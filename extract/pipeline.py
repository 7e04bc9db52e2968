"""Owns the flow of an extraction: decode in workers, encode here, write behind; and each stage's clock.

Three stages at once: while a batch is encoded, workers decode the next clips and a thread writes the tokens
of the batch before. Knows no manifest, resuming or summary.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np

from avcil.cache import Tokens
from avcil.errors import DecodeError
from avcil.extract.media.contract import Backend, Track, failure
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.sources.manifest import Clip
from avcil.extract.tokens import TokenEncoder
from avcil.extract.workers import PoolOptions, process

MISSING_AUDIO = "missing-audio"
QUEUED_BATCHES = 2  # tokens waiting for the disk; at full size 2.4 MB a clip


@dataclass
class Counts:
    """How far the work has come: clips decoded (well or not), stored and failed."""

    decoded: int = 0
    stored: int = 0
    failed: int = 0


@dataclass
class StageTimes:
    """Seconds of work in each stage; stages overlap, so they add up to more than `elapsed_s`.

    `decode_s` is summed over `workers` processes, the others over `devices`. `load_s` is host to device;
    `encode_s` is how long the devices were busy with it.
    """

    workers: int = 1
    devices: int = 1
    elapsed_s: float = 0.0
    decode_s: float = 0.0
    load_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    @property
    def busy(self) -> dict[str, float]:
        """Share of the elapsed time that each stage worked, 0 to 1; the largest one bound the run."""
        elapsed_s = max(self.elapsed_s, 1e-9)
        return {
            "decode": self.decode_s / max(self.workers, 1) / elapsed_s,
            "host to device": self.load_s / self.devices / elapsed_s,
            "encode": self.encode_s / self.devices / elapsed_s,
            "write": self.write_s / self.devices / elapsed_s,
        }

    @property
    def bound_by(self) -> str:
        """The stage that was busiest."""
        return max(self.busy, key=lambda stage: self.busy[stage])


class TokenSink(Protocol):
    """Where tokens and failures go: a `CacheWriter`, or something that stands for one."""

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        """Store the tokens of `ids`: `visual` [n, T, S, D], `audio` [n, D]."""

    def record_failure(self, id: str, kind: str, detail: str) -> None:
        """Note why a clip has no tokens."""

    def record_flags(self, flags: Mapping[str, str]) -> None:
        """Note something about clips (id -> flag) that have tokens."""


@dataclass(frozen=True)
class Plan:
    """How clips become tokens on one device; what it is made of crosses process borders.

    `build_encoder` is called once, in the process that uses it.
    """

    device: str
    build_encoder: Callable[[], TokenEncoder]
    backend: Backend
    allow_missing: frozenset[Track]
    pool: PoolOptions
    batch_size: int


def run_pipeline(
    plan: Plan,
    clips: Sequence[Clip],
    encoder: TokenEncoder,
    sink: TokenSink,
    counts: Counts,
    on_progress: Callable[[], None],
) -> StageTimes:
    """Store the tokens of every clip, or why it has none.

    Interrupted or failing, it stores what was encoded, ends the workers and raises. `counts` is kept up to
    date; `on_progress` is called in this thread after every clip and every batch.
    """
    work = Preparation(encoder.recipe, plan.backend, plan.allow_missing)
    times = StageTimes(workers=max(1, plan.pool.workers))
    began_s = time.monotonic()
    batch: dict[str, PreparedClip] = {}
    with _WriteBehind(sink, counts, times) as behind:

        def encode() -> None:
            asked_s = time.monotonic()
            loaded = encoder.load(list(batch.values()))
            started_s = time.monotonic()
            times.load_s += started_s - asked_s
            tokens = encoder.run(*loaded)
            finite = np.isfinite(tokens.visual).all((1, 2, 3)) & np.isfinite(tokens.audio).all(1)
            times.encode_s += time.monotonic() - started_s
            ids = np.array(list(batch), dtype=object)
            for clip_id in ids[~finite]:
                detail = "the encoders give infinite or undefined tokens; try another --precision"
                behind.fail(clip_id, failure("not-finite", detail))
            if finite.any():
                kept = list(ids[finite])
                silent = [clip_id for clip_id in kept if batch[clip_id].missing_audio]
                behind.store(kept, Tokens(tokens.visual[finite], tokens.audio[finite]), silent)
            batch.clear()

        on_progress()
        with contextlib.closing(process(clips, work, plan.pool)) as outcomes:
            for outcome in outcomes:
                counts.decoded += 1
                times.decode_s += outcome.elapsed_s
                if isinstance(outcome.value, DecodeError):
                    behind.fail(outcome.clip.id, outcome.value)
                else:
                    batch[outcome.clip.id] = outcome.value
                if len(batch) == plan.batch_size:
                    encode()
                on_progress()
        if batch:
            encode()
    on_progress()
    times.elapsed_s = time.monotonic() - began_s
    return times


class _WriteBehind:
    """A thread that owns the sink while the encoders work; errors come out at the next call or the end."""

    def __init__(self, sink: TokenSink, counts: Counts, times: StageTimes) -> None:
        self._sink, self._counts, self._times = sink, counts, times
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(QUEUED_BATCHES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)

    def __enter__(self) -> _WriteBehind:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def store(self, ids: list[str], tokens: Tokens, silent: list[str]) -> None:
        """Queue tokens to be written, and a flag for clips whose sound stands for none."""

        def write() -> None:
            if silent:  # first: better a flag without tokens than tokens without their flag
                self._sink.record_flags(dict.fromkeys(silent, MISSING_AUDIO))
            self._sink.write(ids, tokens.visual, tokens.audio)
            self._counts.stored += len(ids)

        self._enqueue(write)

    def fail(self, clip_id: str, error: DecodeError) -> None:
        """Queue a failure to be noted."""

        def note() -> None:
            self._sink.record_failure(clip_id, error.kind, error.detail)
            self._counts.failed += 1

        self._enqueue(note)

    def _enqueue(self, task: Callable[[], None]) -> None:
        self._raise()
        self._queue.put(task)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._error is not None:
                continue  # drain, so that nobody waits for room
            started_s = time.monotonic()
            try:
                task()
            except BaseException as error:  # raised in the encoders' thread
                self._error = error
            self._times.write_s += time.monotonic() - started_s
