"""Child processes that run a function of the package, and the channel between them and this one.

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
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Channel:
    """A pipe whose messages leave their arrays in memory that both sides see, where there is enough of it.

    A message is pickled without its arrays (protocol 5), which are copied in by the sender and out by the
    receiver; a pipe would pass them on in pieces of 64 KiB. Only messages of one side may hold arrays, and
    it waits for an answer before it sends the next one.
    """

    def __init__(self, pipe: Connection, memory: mmap.mmap | None = None) -> None:
        self._pipe, self._memory = pipe, memory

    def send(self, value: object) -> None:
        """Send anything picklable; raises `OSError` where nobody listens any more."""
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        if sum(array.nbytes for array in arrays) > (len(self._memory) if self._memory else 0):
            text, arrays = pickle.dumps(value, protocol=5), []
        start = 0
        for array in arrays:
            assert self._memory is not None
            self._memory[start : start + array.nbytes] = array
            start += array.nbytes
        self._pipe.send((text, [array.nbytes for array in arrays]))

    def recv(self) -> Any:
        """What the other side sent, copied, so that it may send the next; raises `EOFError` at the end."""
        text, sizes = self._pipe.recv()
        arrays, start = [], 0
        for size in sizes:
            assert self._memory is not None
            arrays.append(bytearray(self._memory[start : start + size]))
            start += size
        return pickle.loads(text, buffers=arrays)  # from a process of our own, not from a file

    def poll(self, timeout_s: float) -> bool:
        """Whether there is something to receive, the end too, within this time."""
        return self._pipe.poll(timeout_s)

    def fileno(self) -> int:
        """For `multiprocessing.connection.wait`."""
        return self._pipe.fileno()

    def close(self) -> None:
        """Give pipe and memory up in this process."""
        self._pipe.close()
        if self._memory is not None:
            self._memory.close()


class Child:
    """A process that runs `target(channel, *arguments)`, picklable; `channel` is our end. It dies with us.

    `memory_bytes`: of the channel, for large results; pages count when touched. The process is in a session
    of its own: Ctrl-C reaches only the process that started it, which ends it.
    """

    def __init__(self, target: Callable[..., None], *arguments: object, memory_bytes: int = 0) -> None:
        ours, theirs = multiprocessing.Pipe()
        fds, memory = [theirs.fileno()], None
        if memory_bytes:
            fds.append(_anonymous_file(memory_bytes))
            memory = mmap.mmap(fds[1], memory_bytes)
        self.channel = Channel(ours, memory)
        path = [entry for entry in sys.path if isinstance(entry, str)]
        run = f"from avcil.extract.child import serve; serve(*{fds})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {path!a}; {run}"],
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
        )
        theirs.close()
        for fd in fds[1:]:
            os.close(fd)
        with contextlib.suppress(OSError):  # it is dead already: whoever receives finds out
            self.channel.send((target, arguments))

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def end(self, patience_s: float = 0.0) -> str:
        """Wait for the process so long, then kill it; tells how it ended. May be called twice."""
        self.channel.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def serve(pipe_fd: int, memory_fd: int | None = None) -> None:
    """Run in the child."""
    if sys.platform == "linux":  # stuck in a codec, it must not outlive a parent that was killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    memory = None if memory_fd is None else mmap.mmap(memory_fd, os.fstat(memory_fd).st_size)
    channel = Channel(Connection(pipe_fd), memory)
    try:
        target, arguments = channel.recv()
    except EOFError:
        return
    target(channel, *arguments)


def _anonymous_file(size_bytes: int) -> int:
    """A file that goes with the last process that has it; not in `/dev/shm`, which is small in containers."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("avcil-decoded", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size_bytes)
    return fd
