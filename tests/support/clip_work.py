"""Work for decode workers in tests: what happens is the clip's label. Importable by spawned processes."""

import os
import signal
import time

from avcil.errors import DecodeError
from avcil.extract.child import Channel
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


def send_back(channel: Channel) -> None:
    """Answer one message with itself."""
    channel.send(channel.recv())


class DiesWhenUnpickled:
    """Work that ends a worker before it can say that it is ready."""

    def __call__(self, clip: Clip) -> int:
        """Never reached."""
        return 0

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)
