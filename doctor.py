"""Owns what this machine can do for avcil, tried out: a list of checks, each with its remedy; mends nothing.

Everything is imported inside a check, because a package may be missing or broken: that is then what is found.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from avcil.machine import usable_cores

State = Literal["ok", "broken", "absent"]
PACKAGES = {  # what pip calls it -> what Python calls it
    "torch": "torch",
    "torchaudio": "torchaudio",
    "av": "av",
    "decord2": "decord",
    "h5py": "h5py",
    "numpy": "numpy",
    "einops": "einops",
    "safetensors": "safetensors",
    "pillow": "PIL",
    "jinja2": "jinja2",
}
REINSTALL = "pip install --force-reinstall"  # without it, pip leaves a broken package as it is
PAIR = f"{REINSTALL} 'torch>=2.11,<2.13' 'torchaudio>=2.11,<2.12'"
HUB_MODELS = (
    "MCG-NJU/videomae-base",
    "MCG-NJU/videomae-large",
    "gaunernst/vit_base_patch16_1024_128.audiomae_as2m",
)
LEAST_FREE_BYTES, LEAST_MEMORY_BYTES = 2 * 10**9, 4 * 10**9


@dataclass(frozen=True)
class Check:
    """What was found of one thing.

    Attributes:
        name: of what.
        state: `broken` things are needed on the main road (extract, train, eval); `absent` ones are not.
        found: in words.
        remedy: what to do about it, where there is something.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


class Lacking(Exception):
    """Raised in a check: what is lacking is not needed on the main road."""


def check_all() -> list[Check]:
    """Try everything; whatever a broken package throws is a finding."""
    checks = [_check("python", _python, "install Python 3.10 or newer")]
    checks += [
        _check(
            name,
            partial(_package, name),
            PAIR if name.startswith("torch") else f"{REINSTALL} {name}",
        )
        for name in PACKAGES
    ]
    checks += [
        _check("sound to spectrogram", _spectrogram, PAIR),
        _check("decoding with PyAV", partial(_decode, "pyav"), f"{REINSTALL} av"),
        _check("decoding with decord", partial(_decode, "decord"), f"{REINSTALL} decord2"),
        _check("cores and memory", _memory, "use --workers 1 and a smaller --batch"),
        _check("free disk here", _disk, "make room, or work on another disk"),
        _check(
            "GPU", _gpu, "install a driver for this torch (nvidia-smi says what there is), or use the CPU"
        ),
        _check("bf16 on the CPU", _bf16, "use --precision fp32, which auto chooses"),
        _check("C++ compiler", _compiler, "apt-get install g++; only --compile needs it"),
        _check("weights by name", _hub, "pip install huggingface_hub; or give files with --visual-weights"),
    ]
    return checks


def works(checks: list[Check]) -> bool:
    """Whether extract, train and eval work here."""
    return all(check.state != "broken" for check in checks)


def _check(name: str, find: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, "ok", find())
    except Lacking as lacking:
        return Check(name, "absent", str(lacking), remedy)
    except Exception as error:  # whatever a broken package throws
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        return Check(name, "broken", f"{type(error).__name__}: {first}", remedy)


def _python() -> str:
    import avcil

    return (
        f"{platform.python_version()} on {platform.system()} {platform.machine()}; avcil {avcil.__version__}"
    )


def _package(name: str) -> str:
    importlib.import_module(PACKAGES[name])
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "installed, of unknown version"


def _spectrogram() -> str:
    import numpy as np

    from avcil.extract.recipe import log_mel, recommended

    mel = log_mel(np.zeros((1, 16_000), np.float32), 16_000, recommended())
    return f"one second of sound made {mel.shape[0]} x {mel.shape[1]}"


def _decode(backend: Literal["pyav", "decord"]) -> str:
    from avcil.demo.videos import CLASSES, DemoClip, DemoSpec, draw_clip, write_video
    from avcil.extract.media.contract import DecodeRequest
    from avcil.extract.media.decode import decode

    if backend == "decord":
        importlib.import_module("decord")
    spec = DemoSpec(min_s=1.0, max_s=1.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, *draw_clip(DemoClip(CLASSES[0], "test", 0), spec), spec)
        clip = decode(path, DecodeRequest(), backend)
    return f"{len(clip.frames)} frames and {clip.audio.shape[1] / clip.sample_rate_hz:.1f} s of sound"


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{usable_cores()} cores, {total / 1e9:.1f} GB"
    if total < LEAST_MEMORY_BYTES:
        raise Lacking(f"{found}; the full-size encoders want {LEAST_MEMORY_BYTES / 1e9:.0f}")
    return found


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < LEAST_FREE_BYTES:
        raise Lacking(f"{free / 1e9:.1f} GB; 1000 clips take 2.4 GB")
    return f"{free / 1e9:.1f} GB; 1000 clips take 2.4 GB"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise Lacking("none that torch can use")
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{one.name} {one.total_memory / 1e9:.0f} GB" for one in found) + _driver()


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f", driver {said[0]}" if said else ""


def _bf16() -> str:
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise Lacking("this CPU has no instructions for it")
    return "supported"


def _compiler() -> str:
    names = (os.environ.get("CXX", ""), "g++", "clang++")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise Lacking("none found")
    return found


def _hub() -> str:
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise Lacking("huggingface_hub is not installed") from error
    cache = Path(constants.HF_HUB_CACHE)
    there = [name for name in HUB_MODELS if (cache / f"models--{name.replace('/', '--')}").is_dir()]
    version = metadata.version("huggingface_hub")
    return f"huggingface_hub {version}; fetched already: {', '.join(there) or 'none'}"
