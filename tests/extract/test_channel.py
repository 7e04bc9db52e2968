"""Channels: the same values on the other side, whatever their size."""

import mmap
import multiprocessing
from collections.abc import Iterator

import numpy as np
import pytest
from support.clip_work import send_back

from avcil.errors import DecodeError
from avcil.extract.child import Channel, Child
from avcil.extract.prepare import PreparedClip


def clip(size: int) -> PreparedClip:
    frames = np.arange(2 * size * size * 3, dtype=np.uint64).astype(np.uint8).reshape(2, size, size, 3)
    return PreparedClip(frames, np.linspace(-1, 1, 128, dtype=np.float32)[None])


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a channel with 64 KiB of memory."""
    memory = mmap.mmap(-1, 2**16)
    one, other = multiprocessing.Pipe()
    yield Channel(one, memory), Channel(other, memory)
    one.close()
    other.close()


@pytest.mark.parametrize("memory_bytes", [0, 4096, 2**20])
def test_a_clip_crosses_to_another_process(memory_bytes: int) -> None:
    """Without memory, and where the clip does not fit, through the pipe."""
    child = Child(send_back, memory_bytes=memory_bytes)
    child.channel.send(clip(64))
    received = child.channel.recv()
    assert child.end(5.0) == "exit code 0"
    assert (received.frames == clip(64).frames).all() and (received.mel == clip(64).mel).all()


def test_arrays_that_fit_do_not_go_through_the_pipe(ends: tuple[Channel, Channel]) -> None:
    ends[0].send(clip(64))
    text, sizes = ends[1]._pipe.recv()
    assert len(text) < 1000 and sum(sizes) == 2 * 64 * 64 * 3 + 128 * 4


def test_what_was_received_is_not_overwritten_by_the_next(ends: tuple[Channel, Channel]) -> None:
    ends[0].send(clip(16))
    first = ends[1].recv()
    ends[0].send(np.zeros(2**16, np.uint8))
    ends[1].recv()
    assert (first.frames == clip(16).frames).all()


def test_errors_are_values_too(ends: tuple[Channel, Channel]) -> None:
    ends[0].send(DecodeError("corrupt", "é"))
    error = ends[1].recv()
    assert isinstance(error, DecodeError) and (error.kind, error.detail) == ("corrupt", "é")
