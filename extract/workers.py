"""Owns decode processes: one clip each at a time, a deadline for each, replaced when they hang, die or age.

What a worker does with a clip is a picklable callable; this module knows neither media nor encoders. Results
are values, in the order in which they are done: a clip that fails is a `DecodeError` and stops no other.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from avcil.errors import AvcilError, DecodeError
from avcil.extract.media.contract import failure
from avcil.extract.shared_buffer import SharedBuffer
from avcil.extract.sources.manifest import Clip

Result = TypeVar("Result")
Work = Callable[[Clip], Result | DecodeError]

START_DEADLINE_S = 120.0  # importing torch on a busy machine
MAX_FAILED_STARTS = 3
POLL_S = 0.1
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
BUFFER_BYTES = 8 * 2**20  # a clip at full size has 2.9 MB; a larger one goes through the pipe


@dataclass(frozen=True)
class PoolOptions:
    """Number of workers, seconds a clip may take, clips until a worker is replaced, results kept ready."""

    workers: int
    deadline_s: float = 60.0
    clips_per_worker: int = 500
    ready: int = 16

    def __post_init__(self) -> None:
        if self.workers < 0 or self.deadline_s <= 0 or self.clips_per_worker < 1 or self.ready < 1:
            raise ValueError(f"PoolOptions: {self}; workers >= 0, everything else must be positive")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """A clip, what became of it, and the seconds of work it took."""

    clip: Clip
    value: Result | DecodeError
    elapsed_s: float = 0.0


def process(
    clips: Iterable[Clip], work: Work[Result], options: PoolOptions
) -> Generator[Outcome[Result], None, None]:
    """Apply `work` to every clip, in workers or (`workers=0`) here and without a deadline.

    Closing the iterator, or any exception in its consumer, ends all workers. Raises `AvcilError` if workers
    cannot be started at all.
    """
    if options.workers == 0:
        for clip in clips:
            began_s = time.monotonic()
            value = work(clip)
            yield Outcome(clip, value, time.monotonic() - began_s)
        return
    supervisor = _Supervisor(iter(clips), work, options)
    try:
        yield from supervisor.outcomes()
    finally:
        supervisor.stop()


@dataclass
class _Worker(Generic[Result]):
    """A process, our end of its pipe, and what it does now; `clip` is None while it starts or waits."""

    process: BaseProcess
    pipe: Connection
    buffer: SharedBuffer
    since_s: float
    is_ready: bool = False
    n_done: int = 0
    clip: Clip | None = None


@dataclass
class _Supervisor(Generic[Result]):
    """A thread that hands out clips, watches deadlines and queues outcomes while the consumer encodes."""

    clips: Iterator[Clip]
    work: Work[Result]
    options: PoolOptions
    _workers: list[_Worker[Result]] = field(default_factory=list)
    _failed_starts: int = 0

    def __post_init__(self) -> None:
        self._queue: queue.Queue[Outcome[Result] | BaseException | None] = queue.Queue(self.options.ready)
        self._stopping = threading.Event()
        self._next = next(self.clips, None)
        self._thread = threading.Thread(target=self._run, name="decode-supervisor", daemon=True)
        self._thread.start()

    def outcomes(self) -> Iterator[Outcome[Result]]:
        """Give outcomes until every clip has one."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """End the thread and every worker; safe to call at any time."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        # Ctrl-C reaches the whole process group. Workers inherit this thread's mask from their first moment,
        # so that only the consumer's thread is interrupted, and ends them. Starting Python's resource tracker
        # would undo the mask: it is started before.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._stopping.is_set() and (self._next is not None or self._busy()):
                self._staff()
                self._listen()
                self._enforce_deadlines()
            self._put(None)
        except BaseException as error:  # the consumer's thread raises it
            self._put(error)
        finally:
            for worker in self._workers:
                _end(worker)

    def _busy(self) -> bool:
        return any(worker.clip is not None for worker in self._workers)

    def _staff(self) -> None:
        """Start workers where some are lacking, and give every idle one a clip."""
        n_wanted = self.options.workers if self._next is not None else 0
        while len(self._workers) < n_wanted:
            self._workers.append(_start(self.work))
        for worker in [worker for worker in self._workers if worker.is_ready and worker.clip is None]:
            if self._next is None:
                return
            try:
                worker.pipe.send(self._next)
            except OSError:  # it died while idle: the clip goes to another
                self._dismiss(worker)
                continue
            worker.clip, worker.since_s = self._next, time.monotonic()
            self._next = next(self.clips, None)

    def _listen(self) -> None:
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe), timeout=POLL_S):
            worker = by_pipe[pipe]  # type: ignore[index]  # only connections were given
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if worker.clip is None:
                worker.is_ready, self._failed_starts = True, 0
                continue
            packed, elapsed_s = message
            self._put(Outcome(worker.clip, worker.buffer.unpack(packed), elapsed_s))
            worker.clip, worker.n_done = None, worker.n_done + 1
            if worker.n_done >= self.options.clips_per_worker:
                self._dismiss(worker)

    def _bury(self, worker: _Worker[Result]) -> None:
        """Note what a dead worker was at."""
        clip = worker.clip
        self._dismiss(worker)
        if clip is not None:
            code = worker.process.exitcode
            name = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            self._put(Outcome(clip, failure("crashed", f"the decoding process died ({name})")))
        elif not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise AvcilError("decode workers die at their start: run with --workers 0 to see why")

    def _enforce_deadlines(self) -> None:
        now_s = time.monotonic()
        for worker in list(self._workers):
            if worker.clip is not None and now_s - worker.since_s > self.options.deadline_s:
                clip = worker.clip
                self._dismiss(worker)
                detail = f"not decoded within {self.options.deadline_s:g} s"
                self._put(Outcome(clip, failure("timeout", detail)))
            elif not worker.is_ready and now_s - worker.since_s > START_DEADLINE_S:
                self._bury(worker)

    def _dismiss(self, worker: _Worker[Result]) -> None:
        self._workers.remove(worker)
        _end(worker)

    def _put(self, item: Outcome[Result] | BaseException | None) -> None:
        """Queue an item as soon as there is room; the workers' clocks do not run meanwhile."""
        began_s = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=POLL_S)
                break
            except queue.Full:
                continue
        waited_s = time.monotonic() - began_s
        for worker in self._workers:
            worker.since_s += waited_s


def _start(work: Work[Result]) -> _Worker[Result]:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks and open media
    ours, theirs = context.Pipe()
    buffer = SharedBuffer(BUFFER_BYTES)
    child = context.Process(target=_serve, args=(theirs, buffer, work), name="decode-worker", daemon=True)
    child.start()
    theirs.close()
    return _Worker(child, ours, buffer, time.monotonic())


def _end(worker: _Worker[Result]) -> None:
    """Kill a worker and collect it: it holds nothing that needs care."""
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()
    worker.buffer.close()


def _die_with_parent() -> None:
    """On Linux, a worker stuck in a codec must not outlive a parent that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(pipe: Connection, buffer: SharedBuffer, work: Work[Result]) -> None:
    """Run in the worker: say when ready, then answer clips with values until the pipe closes."""
    _die_with_parent()
    if torch := sys.modules.get("torch"):  # there if the work needs it
        torch.set_num_threads(1)
    try:
        pipe.send("ready")
        while True:
            clip = pipe.recv()
            began_s = time.monotonic()
            value = work(clip)
            pipe.send((buffer.pack(value), time.monotonic() - began_s))
    except (EOFError, OSError):
        return
