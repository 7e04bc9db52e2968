"""avcil: audio-visual class-incremental learning on cached tokens of frozen encoders.

The names in `__all__` are imported when they are first used; `import avcil` alone loads no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avcil.api import compare, evaluate, extract, train
    from avcil.cache import CacheWriter, TokenCache
    from avcil.extract.encoders.encoder import Encoder
    from avcil.predict.predictor import Predictor
    from avcil.train.methods.method import Method
    from avcil.train.protocol import Protocol
    from avcil.train.record.run_folder import Run
else:
    import avcil.extract
    import avcil.train

__version__ = "0.1.0"
__all__ = [
    "CacheWriter",
    "Encoder",
    "Method",
    "Predictor",
    "Protocol",
    "Run",
    "TokenCache",
    "compare",
    "evaluate",
    "extract",
    "train",
]
_HOMES = {
    "CacheWriter": "avcil.cache",
    "Encoder": "avcil.extract.encoders.encoder",
    "Method": "avcil.train.methods.method",
    "Predictor": "avcil.predict.predictor",
    "Protocol": "avcil.train.protocol",
    "Run": "avcil.train.record.run_folder",
    "TokenCache": "avcil.cache",
    "compare": "avcil.api",
    "evaluate": "avcil.api",
}


class _CallablePackage(ModuleType):
    """A package that is the function of its name too: `avcil.extract(...)` beside `avcil.extract.engine`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(import_module("avcil.api"), self.__name__.rpartition(".")[2])(*args, **options)


if not TYPE_CHECKING:
    for _package in (avcil.extract, avcil.train):
        _package.__class__ = _CallablePackage


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'avcil' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def rest_idle_threads() -> None:
    """Let OpenMP's waiting threads spin briefly and then sleep; for programs, before torch is imported.

    Threads that wait by spinning take the cores from another job and it from them: training five times slower
    beside one, extraction by a fifth beside its own decode workers. Those that sleep at once wake up late:
    twice as slow alone. A short spin (some 10 us) has neither fault. A value the user has set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
