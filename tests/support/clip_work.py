"""Work for decode workers in tests: what happens is the clip's label. Importable by spawned processes."""

import os
import signal
import time
from multiprocessing.connection import Connection

from avcil.errors import DecodeError
from avcil.extract.child import SharedBuffer
from avcil.extract.sources.clip import Clip


def act(clip: Clip) -> int | DecodeError:
    """Give the process id, an error, or none because of a hang or a death."""
    if clip.label == "hang":
        time.sleep(600)
    if clip.label == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if clip.label == "leave":
        os._exit(3)
    if clip.label == "touch":
        clip.path.touch()
    if clip.label == "fail":
        return DecodeError("corrupt", "by wish")
    return os.getpid()


def send_packed(pipe: Connection, fd: int, size_bytes: int, value: object) -> None:
    """Send a value through the shared memory behind `fd`."""
    pipe.send(SharedBuffer(size_bytes, fd).pack(value))


class DiesWhenUnpickled:
    """Work that ends a worker before it can say that it is ready."""

    def __call__(self, clip: Clip) -> int:
        """Never reached."""
        return 0

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)
