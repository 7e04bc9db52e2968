"""Memory that two processes share, by which large results go from one to the other.

A result is pickled without its arrays (protocol 5); they are copied into the buffer once by the sender and
once out of it by the receiver, where a pipe would pass them on in pieces of 64 KiB.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from typing import Any

Packed = tuple[bytes, list[int]]  # the pickle, and the sizes of the arrays in the buffer, in bytes


class SharedBuffer:
    """Memory of `size_bytes` behind a descriptor `fd` that a child inherits; pages count when touched.

    It is anonymous: it goes with the last process that has it, however that ends. Not in `/dev/shm`, which
    is small in containers.
    """

    def __init__(self, size_bytes: int, fd: int | None = None) -> None:
        """Make the memory, or in the child take the one behind `fd`."""
        self.fd = _anonymous_file(size_bytes) if fd is None else fd
        self._map = mmap.mmap(self.fd, size_bytes)

    def pack(self, value: object) -> Packed:
        """Put the arrays of `value` into the buffer, or into the pickle if they do not fit."""
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        raws = [buffer.raw() for buffer in buffers]
        if sum(raw.nbytes for raw in raws) > len(self._map):
            return pickle.dumps(value, protocol=5), []
        start = 0
        for raw in raws:
            self._map[start : start + raw.nbytes] = raw
            start += raw.nbytes
        return text, [raw.nbytes for raw in raws]

    def unpack(self, packed: Packed) -> Any:
        """What the other process packed; its arrays are copies, so the buffer is free again."""
        text, sizes = packed
        arrays, start = [], 0
        for size in sizes:
            arrays.append(bytearray(self._map[start : start + size]))
            start += size
        return pickle.loads(text, buffers=arrays)  # from a process of our own, not from a file

    def close(self) -> None:
        """Give the memory up in this process."""
        self._map.close()
        os.close(self.fd)


def _anonymous_file(size_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("avcil-decoded", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size_bytes)
    return fd
