"""Child processes: Python processes that run a function of the package, at the other end of a pipe.

They import nothing of the program that starts them. multiprocessing runs the main script again in every
process that it spawns, which a script without a `__main__` guard or one read from standard input cannot bear.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


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
