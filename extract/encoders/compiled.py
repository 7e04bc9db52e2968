"""A module run through `torch.compile` at one batch size."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]


class FixedBatch:
    """A module compiled for one batch size: smaller batches are padded to it and cut again.

    The size is that of the largest batch so far, so a run compiles once: its last batch alone is smaller.
    Where compiling does not work (no C++ compiler, no Triton, a module that cannot be traced), it warns and
    runs the module as it is.
    """

    def __init__(self, module: nn.Module, compiler: Callable[[nn.Module], Forward] | None = None) -> None:
        self.module = module
        self._compiler = compiler or _compile
        self._compiled: Forward | None = None
        self._works = True
        self._size = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the module to a batch [B, ...] -> [B, ...]."""
        if not self._works:
            return self._eager(x)
        is_known = len(x) <= self._size
        self._size = max(self._size, len(x))
        padding = x[-1:].expand(self._size - len(x), *x.shape[1:])
        padded = torch.cat([x, padding]) if len(padding) else x
        if is_known and self._compiled is not None:
            return self._compiled(padded)[: len(x)]
        try:
            self._compiled = self._compiled or self._compiler(self.module)
            return self._compiled(padded)[: len(x)]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler throws; what the module itself does, it does again
            self._works = False
            reason = next(iter(str(error).splitlines()), "")
            warnings.warn(
                f"torch.compile does not work here, going on without ({type(error).__name__}: {reason})",
                RuntimeWarning,
                stacklevel=2,
            )
            return self._eager(x)

    def _eager(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        return out


def _compile(module: nn.Module) -> Forward:
    compiled: Forward = torch.compile(module, dynamic=False)
    return compiled
