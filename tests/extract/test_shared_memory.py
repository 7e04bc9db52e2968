"""Results through shared memory: the same values, whatever their size."""

import numpy as np
import pytest
from support.clip_work import send_packed

from avcil.errors import DecodeError
from avcil.extract.child import Child, SharedBuffer
from avcil.extract.prepare import PreparedClip


def clip(size: int) -> PreparedClip:
    frames = np.arange(2 * size * size * 3, dtype=np.uint64).astype(np.uint8).reshape(2, size, size, 3)
    return PreparedClip(frames, np.linspace(-1, 1, 128, dtype=np.float32)[None])


@pytest.mark.parametrize("size", [8, 64])
def test_a_clip_crosses_to_another_process(size: int) -> None:
    buffer = SharedBuffer(4096)
    child = Child(send_packed, buffer.fd, 4096, clip(size), shared=[buffer.fd])
    packed = child.pipe.recv()
    child.end(5.0)
    assert bool(packed[1]) == (size == 8)  # the larger one does not fit and goes through the pipe
    received = buffer.unpack(packed)
    assert (received.frames == clip(size).frames).all() and (received.mel == clip(size).mel).all()
    buffer.close()


def test_what_was_received_is_not_overwritten_by_the_next() -> None:
    buffer = SharedBuffer(2**16)
    first = buffer.unpack(buffer.pack(clip(16)))
    buffer.unpack(buffer.pack(np.zeros(2**16, np.uint8)))
    assert (first.frames == clip(16).frames).all()


def test_errors_are_values_too() -> None:
    buffer = SharedBuffer(4096)
    error = buffer.unpack(buffer.pack(DecodeError("corrupt", "é")))
    assert isinstance(error, DecodeError) and (error.kind, error.detail) == ("corrupt", "é")
