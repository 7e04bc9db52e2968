"""Owns an extraction on several devices of one machine: a process for each, with clips of its own.

The process that asks holds the cache and counts; the others decode, encode and write rows that nobody else
writes, and report what became of each clip.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avcil.cache import CacheInfo, CacheWriter, RowWriter
from avcil.errors import AvcilError, EncoderError
from avcil.extract.pipeline import Counts, Plan, StageTimes, run_pipeline
from avcil.extract.sources.manifest import Clip

END_S = 2.0  # what a process gets to end by itself


def device_names(text: str) -> list[str]:
    """Devices of `auto` (every GPU, else the CPU) or of a list like `cuda:0,cuda:1`."""
    if text == "auto":
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise EncoderError(f"devices {text!r}: give auto, or names like cuda:0,cuda:1")
    return names


@dataclass(frozen=True)
class Share:
    """What one process does: its clips, and how."""

    plan: Plan
    path: Path
    info: CacheInfo
    clips: list[Clip]


def run_on_devices(
    plans: Sequence[Plan],
    clips: Sequence[Clip],
    writer: CacheWriter,
    counts: Counts,
    on_progress: Callable[[], None],
) -> StageTimes:
    """Store the tokens of every clip, or why it has none, with a process for each plan.

    Clips are dealt in turn. Interrupted or failing, everything that was stored stays and all processes end.

    Raises:
        AvcilError: what the first process to fail ran into.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, Any] = {}
    ended: list[StageTimes] = []
    decoded = dict.fromkeys(range(len(plans)), 0)
    try:
        for number, plan in enumerate(plans):
            share = Share(plan, writer.path, writer.info, list(clips[number :: len(plans)]))
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(theirs, number, share), name=f"extract-{number}")
            process.start()
            theirs.close()
            running[ours] = process
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                try:
                    kind, *values = pipe.recv()
                except EOFError:
                    process = running.pop(pipe)
                    process.join(END_S)
                    code = process.exitcode
                    if len(ended) + len(running) < len(plans):
                        raise EncoderError(f"a device's process died (exit code {code})") from None
                    continue
                if kind == "stored":
                    writer.note_written(values[0])
                    counts.stored += len(values[0])
                elif kind == "failed":
                    writer.record_failure(*values)
                    counts.failed += 1
                elif kind == "flagged":
                    writer.record_flags(*values)
                elif kind == "decoded":
                    decoded[values[0]] = values[1]
                    counts.decoded = sum(decoded.values())
                elif kind == "ended":
                    ended.append(values[0])
                else:
                    raise values[0]
            on_progress()
    finally:
        for pipe, process in running.items():
            pipe.close()
            process.terminate()
        for process in running.values():
            process.join(END_S)
            process.kill()
            process.join()
    return _together(ended)


def _together(times: Sequence[StageTimes]) -> StageTimes:
    return StageTimes(
        workers=sum(one.workers for one in times),
        devices=len(times),
        elapsed_s=max(one.elapsed_s for one in times),
        decode_s=sum(one.decode_s for one in times),
        load_s=sum(one.load_s for one in times),
        encode_s=sum(one.encode_s for one in times),
        write_s=sum(one.write_s for one in times),
    )


@dataclass
class _Reporter:
    """A sink that writes rows here and tells the holder of the cache."""

    rows: RowWriter
    send: Callable[[tuple[Any, ...]], None]

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        self.rows.write(ids, visual, audio)
        self.send(("stored", list(ids)))

    def record_failure(self, id: str, kind: str, detail: str) -> None:
        self.send(("failed", id, kind, detail))

    def record_flags(self, flags: Mapping[str, str]) -> None:
        self.send(("flagged", dict(flags)))


def one_at_a_time(pipe: Connection) -> Callable[[tuple[Any, ...]], None]:
    """A way to send on `pipe` for several threads: two report, and a pipe takes one message at a time."""
    lock = threading.Lock()

    def send(message: tuple[Any, ...]) -> None:
        with lock:
            pipe.send(message)

    return send


def _serve(pipe: Connection, number: int, share: Share) -> None:
    """Run in a device's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the asking process, which ends this one
    signal.signal(signal.SIGTERM, _leave)
    send = one_at_a_time(pipe)
    try:
        encoder = share.plan.build_encoder()
        if encoder.info != share.info:
            raise EncoderError(f"the encoders on {encoder.device} are not those of the cache {share.path}")
        rows = RowWriter.of_cache(share.path, share.info)
        counts = Counts()

        def tell() -> None:
            send(("decoded", number, counts.decoded))

        times = run_pipeline(share.plan, share.clips, encoder, _Reporter(rows, send), counts, tell)
        rows.close()
        send(("ended", times))
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more
    except AvcilError as error:
        send(("error", error))
    except Exception as error:  # what it is must not be lost with this process
        send(("error", EncoderError(f"extraction on {share.plan.device}: {type(error).__name__}: {error}")))


def _leave(*_: object) -> None:
    raise SystemExit(1)  # so that the decode workers are ended on the way out
