"""The circumstances of training: software versions, hardware, git revision."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import torch

import avcil
from avcil.train.record.records import Environment

GIT_TIMEOUT_S = 5.0


def describe_environment(device: torch.device, products: torch.dtype) -> Environment:
    """Find out what this process runs on; what cannot be found out is None or "unknown", never an error.

    Args:
        device: where training runs.
        products: in what precision it multiplies large matrices.
    """
    versions = {
        "avcil": avcil.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "h5py": h5py.__version__,
    }
    on_gpu = device.type == "cuda"
    if on_gpu:
        versions["cuda"] = str(torch.version.cuda)
    revision = _git("rev-parse", "HEAD")
    # Untracked files may be large and many, and are not what a revision promises.
    changes = None if revision is None else _git("status", "--porcelain", "--untracked-files=no")
    return Environment(
        versions=versions,
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        products=str(products).removeprefix("torch."),
        git_revision=revision,
        git_dirty=None if changes is None else bool(changes),
    )


def _processor() -> str:
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _git(*arguments: str) -> str | None:
    """What git prints about the working directory; None without git, a repository or an answer in time."""
    # A repository may name a program to watch its files: asking for a revision must not start it.
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
