"""Decode workers: processes that take one clip at a time, within a deadline, replaced when they hang or die.

What a worker does with a clip is a picklable callable; this module knows neither media nor encoders. Results
are values, in the order in which they are done: a clip that fails is a `DecodeError` and stops no other.
"""

from __future__ import annotations

import multiprocessing
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import Generic, TypeVar

from avcil.errors import AvcilError, DecodeError
from avcil.extract.child import Channel, Child
from avcil.extract.media.contract import failure
from avcil.extract.sources.clip import Clip

Result = TypeVar("Result")
Work = Callable[[Clip], Result | DecodeError]

START_DEADLINE_S = 120.0  # importing torch on a busy machine
MAX_FAILED_STARTS = 3
POLL_S = 0.1
MEMORY_BYTES = 8 * 2**20  # a clip at full size has 2.9 MB; a larger one goes through the pipe


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
class ClipResult(Generic[Result]):
    """A clip, what became of it, and the seconds of work it took."""

    clip: Clip
    value: Result | DecodeError
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class _Task(Generic[Result]):
    """A clip, and where its result is waited for."""

    clip: Clip
    results: queue.SimpleQueue[ClipResult[Result]]


@dataclass
class _Worker(Generic[Result]):
    """A process and what it does now; `task` is None while it starts or waits."""

    child: Child
    since_s: float
    is_ready: bool = False
    n_done: int = 0
    task: _Task[Result] | None = None


class DecodePool(Generic[Result]):
    """Applies `work` to clips in worker processes, or (`workers=0`) in this one and without a deadline.

    A context manager: leaving it, for whatever reason, ends all workers. A thread hands out clips in the
    order given, watches deadlines and collects results while the caller encodes; it stops handing out when
    `ready` results beside those under way wait for the caller.
    """

    def __init__(self, work: Work[Result], options: PoolOptions) -> None:
        self._work, self._options = work, options
        self._tasks: deque[_Task[Result]] = deque()
        self._workers: list[_Worker[Result]] = []
        self._failed_starts = 0
        self._n_put, self._n_taken = 0, 0  # each changed by one thread
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self._wakes, self._waker = multiprocessing.Pipe(duplex=False)
        self._thread = threading.Thread(target=self._supervise, name="decode-supervisor", daemon=True)
        if options.workers:
            self._thread.start()

    def __enter__(self) -> DecodePool[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._options.workers:
            self._wake()
            self._thread.join()
        self._wakes.close()
        self._waker.close()

    def run(self, clips: Sequence[Clip]) -> Iterator[ClipResult[Result]]:
        """Begin with these clips, behind those given before, and give their results as they come.

        Reading them raises `AvcilError` if workers cannot be started at all.
        """
        if not self._options.workers:
            return self._run_here(clips)
        results: queue.SimpleQueue[ClipResult[Result]] = queue.SimpleQueue()
        self._tasks.extend(_Task(clip, results) for clip in clips)
        self._wake()
        return self._collect(len(clips), results)

    def _run_here(self, clips: Sequence[Clip]) -> Iterator[ClipResult[Result]]:
        for clip in clips:
            began_s = time.monotonic()
            value = self._work(clip)
            yield ClipResult(clip, value, time.monotonic() - began_s)

    def _collect(
        self, count: int, results: queue.SimpleQueue[ClipResult[Result]]
    ) -> Iterator[ClipResult[Result]]:
        while count:
            try:
                result = results.get(timeout=POLL_S)
            except queue.Empty:
                if self._error is not None:
                    raise self._error from None
                continue
            count -= 1
            self._n_taken += 1
            self._wake()
            yield result

    def _wake(self) -> None:
        self._waker.send_bytes(b"")

    def _supervise(self) -> None:
        try:
            while not self._closing.is_set():
                self._hand_out()
                self._receive()
                self._enforce_deadlines()
        except BaseException as error:  # raised in the caller's thread
            self._error = error
        finally:
            for worker in self._workers:
                worker.child.end()

    def _hand_out(self) -> None:
        """Start workers where some are missing, and give idle ones a clip each while results find room."""
        n_busy = sum(worker.task is not None for worker in self._workers)
        while len(self._workers) < min(self._options.workers, n_busy + len(self._tasks)):
            child = Child(_serve, self._work, memory_bytes=MEMORY_BYTES)
            self._workers.append(_Worker(child, time.monotonic()))
        room = self._options.workers + self._options.ready - n_busy - (self._n_put - self._n_taken)
        for worker in [worker for worker in self._workers if worker.is_ready and worker.task is None]:
            if not self._tasks or room <= 0:
                return
            try:
                worker.child.channel.send(self._tasks[0].clip)
            except OSError:  # it died while idle: the clip goes to another
                self._remove(worker)
                continue
            worker.task, worker.since_s = self._tasks.popleft(), time.monotonic()
            room -= 1

    def _receive(self) -> None:
        by_fd = {worker.child.channel.fileno(): worker for worker in self._workers}
        for fd in wait([*by_fd, self._wakes.fileno()], timeout=POLL_S):
            if fd == self._wakes.fileno():
                while self._wakes.poll():
                    self._wakes.recv_bytes()
                continue
            assert isinstance(fd, int)
            worker = by_fd[fd]
            try:
                message = worker.child.channel.recv()
            except (EOFError, OSError):
                self._note_death(worker)
                continue
            if worker.task is None:
                worker.is_ready, self._failed_starts = True, 0
                continue
            self._put(worker.task, *message)
            worker.task, worker.n_done = None, worker.n_done + 1
            if worker.n_done >= self._options.clips_per_worker:
                self._remove(worker)

    def _note_death(self, worker: _Worker[Result]) -> None:
        """Give what a dead worker was at as crashed, and count those that never got ready."""
        how = self._remove(worker)
        if worker.task is not None:
            self._put(worker.task, failure("crashed", f"the decoding process died ({how})"))
        elif not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise AvcilError("decode workers die at their start: run with --workers 0 to see why")

    def _enforce_deadlines(self) -> None:
        now_s = time.monotonic()
        for worker in list(self._workers):
            if worker.task is not None and now_s - worker.since_s > self._options.deadline_s:
                self._remove(worker)
                detail = f"not decoded within {self._options.deadline_s:g} s"
                self._put(worker.task, failure("timeout", detail))
            elif not worker.is_ready and now_s - worker.since_s > START_DEADLINE_S:
                self._note_death(worker)

    def _remove(self, worker: _Worker[Result]) -> str:
        self._workers.remove(worker)
        return worker.child.end()  # killed: it holds nothing that needs care

    def _put(self, task: _Task[Result], value: Result | DecodeError, elapsed_s: float = 0.0) -> None:
        self._n_put += 1
        task.results.put(ClipResult(task.clip, value, elapsed_s))


def _serve(channel: Channel, work: Work[Result]) -> None:
    """Run in the worker: tell when ready, then answer clips with values until the channel closes."""
    if torch := sys.modules.get("torch"):  # there if the work needs it
        torch.set_num_threads(1)
    try:
        channel.send("ready")
        while True:
            clip = channel.recv()
            began_s = time.monotonic()
            value = work(clip)
            channel.send((value, time.monotonic() - began_s))
    except (EOFError, OSError):
        return
