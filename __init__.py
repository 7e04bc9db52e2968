"""avcil: audio-visual class-incremental learning on cached tokens of frozen encoders."""

import os

__version__ = "0.1.0"


def rest_idle_threads() -> None:
    """Let OpenMP's waiting threads spin briefly and then sleep; for programs, before torch is imported.

    Threads that wait by spinning take the cores from another job and it from them: training five times slower
    beside one, extraction by a fifth beside its own decode workers. Those that sleep at once wake up late:
    twice as slow alone. A short spin (some 10 us) has neither fault. A value the user has set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
