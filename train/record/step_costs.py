"""The costs of a step: wall time by stage and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from avcil.train.record.records import PeakMemory, Stage


class StepMeter:
    """Begins with a step and adds up what it costs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = time.monotonic()
        self.stages: dict[Stage, float] = {}
        self._within = 0.0  # seconds of stages that ended inside the one under way
        _reset_peak(device)

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Count the block's wall time, in seconds, towards stage `name`, but for stages within it."""
        began, outside = time.monotonic(), self._within
        self._within = 0.0
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()  # else the next stage pays
            spent = time.monotonic() - began
            self.stages[name] = self.stages.get(name, 0.0) + spent - self._within
            self._within = outside + spent

    @property
    def seconds(self) -> float:
        """Wall time since the step began."""
        return time.monotonic() - self._began

    @property
    def peak_memory(self) -> PeakMemory:
        """The most memory held at once since the step began."""
        on_gpu = self._device.type == "cuda"
        return PeakMemory(_peak_host(), torch.cuda.max_memory_allocated(self._device) if on_gpu else None)


def _reset_peak(device: torch.device) -> None:
    with suppress(OSError):  # not Linux, or not allowed: the peak is then that of the process so far
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (man 5 proc)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_host() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kB but on macOS
