"""Child processes that run a function of the package at the other end of a pipe, and memory shared with them.

Children import nothing of the program that starts them. multiprocessing runs the main script again in every
process that it spawns, which a script without a `__main__` guard or one read from standard input cannot bear.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
Packed = tuple[bytes, list[int]]  # a pickle, and the sizes of the arrays in the shared memory, in bytes


class Child:
    """A process that runs `target(pipe, *arguments)`, picklable, and dies with this one; `pipe` is our end.

    It is in a session of its own: Ctrl-C reaches only the process that started it, which ends it. The
    descriptors `shared` are open in it under the same numbers.
    """

    def __init__(self, target: Callable[..., None], *arguments: object, shared: Sequence[int] = ()) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        path = [entry for entry in sys.path if isinstance(entry, str)]
        run = f"from avcil.extract.child import serve; serve({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {path!a}; {run}"],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *shared),
            start_new_session=True,
        )
        theirs.close()
        with contextlib.suppress(OSError):  # it is dead already: whoever reads from `pipe` finds out
            self.pipe.send((target, arguments))

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def end(self, patience_s: float = 0.0) -> str:
        """Wait for the process so long, then kill it; says how it ended."""
        self.pipe.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def serve(fd: int) -> None:
    """Run in the child."""
    if sys.platform == "linux":  # stuck in a codec, it must not outlive a parent that was killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    pipe = Connection(fd)
    try:
        target, arguments = pipe.recv()
    except EOFError:
        return
    target(pipe, *arguments)


class SharedBuffer:
    """Memory of `size_bytes` behind a descriptor `fd` that a child inherits; pages count when touched.

    A value is pickled without its arrays (protocol 5), which are copied in by the sender and out by the
    receiver; a pipe would pass them on in pieces of 64 KiB. The memory is anonymous: it goes with the last
    process that has it, however that ends. Not in `/dev/shm`, which is small in containers.
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
