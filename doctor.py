"""Checks of what avcil needs on this machine: each is tried, and what fails has a remedy.

Every package is imported inside a check, because one that is missing or broken is a finding.
"""

from __future__ import annotations

import importlib
import importlib.util
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

from avcil.files import first_line
from avcil.machine import usable_cores

PACKAGES = ("av", "decord2", "h5py", "numpy", "einops", "safetensors", "pillow", "jinja2")
IMPORT_NAMES = {"decord2": "decord", "pillow": "PIL"}  # where they are not what pip calls the package
REINSTALL = "pip install --force-reinstall"  # without it, pip leaves a broken package as it is
TORCH = f"{REINSTALL} 'torch>=2.11'"
TORCHAUDIO = (
    "pip uninstall torchaudio, for transformers does not import beside a broken one; or take an older torch: "
    f"{REINSTALL} 'torch>=2.11,<2.13' 'torchaudio>=2.11'"
)
HUB_MODELS = (
    "MCG-NJU/videomae-base",
    "MCG-NJU/videomae-large",
    "gaunernst/vit_base_patch16_1024_128.audiomae_as2m",
)
LEAST_FREE_BYTES, LEAST_MEMORY_BYTES = 2 * 10**9, 4 * 10**9
LARGEST_LOG_MEL_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Check:
    """What was found of one thing: extract, train and eval need what is `broken`, not what is `absent`."""

    name: str
    state: Literal["ok", "broken", "absent"]
    found: str
    remedy: str = ""


class _Absent(Exception):
    """Raised in a check: not there, and not needed by extract, train and eval."""


def check_all() -> list[Check]:
    """Try everything; whatever a broken package throws is a finding."""
    checks: list[tuple[str, Callable[[], str], str]] = [
        ("python", _python, "install Python 3.10 or newer"),
        ("torch", partial(_package, "torch"), TORCH),
        ("torchaudio", _torchaudio, TORCHAUDIO),
        *((name, partial(_package, name), f"{REINSTALL} {name}") for name in PACKAGES),
        ("sound to spectrogram", _spectrogram, TORCH),
        ("decoding with PyAV", partial(_decode, "pyav"), f"{REINSTALL} av"),
        ("decoding with decord", partial(_decode, "decord"), f"{REINSTALL} decord2"),
        ("cores and memory", _memory, "use --workers 1 and a smaller --batch"),
        ("free disk here", _disk, "make room, or work on another disk"),
        ("folder for kernels", _kernels, "set TORCHINDUCTOR_CACHE_DIR to a folder that can be written"),
        ("GPU", _gpu, "install a driver for this torch (nvidia-smi says what there is), or use the CPU"),
        ("bf16 on the CPU", _bf16, "use --precision fp32, which auto chooses"),
        ("C++ compiler", _compiler, "apt-get install g++; only --compile needs it"),
        ("weights by name", _hub, "pip install huggingface_hub; or give files with --visual-weights"),
    ]
    return [_check(*check) for check in checks]


def works(checks: list[Check]) -> bool:
    """Say whether extract, train and eval work here."""
    return all(check.state != "broken" for check in checks)


def _check(name: str, find: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, "ok", find())
    except _Absent as absent:
        return Check(name, "absent", str(absent), remedy)
    except Exception as error:  # whatever a broken package throws
        return Check(name, "broken", f"{type(error).__name__}: {first_line(error)}", remedy)


def _python() -> str:
    import avcil

    system = f"{platform.system()} {platform.machine()}"
    return f"{platform.python_version()} on {system}; avcil {avcil.__version__}"


def _package(name: str) -> str:
    importlib.import_module(IMPORT_NAMES.get(name, name))
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "installed, of unknown version"


def _torchaudio() -> str:
    import torch  # where this fails, it is torch that is broken

    if importlib.util.find_spec("torchaudio") is None:
        return "not installed; plain torch is used instead"
    try:
        return _package("torchaudio")
    except Exception as error:
        found = f"does not import beside torch {torch.__version__} ({first_line(error)})"
        raise _Absent(f"{found}; plain torch is used instead") from error


def _spectrogram() -> str:
    import torch

    from avcil.extract.mel import filter_bank, filter_bank_twin, load_torchaudio

    second = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    twin = filter_bank_twin(second, 16_000, 128, 25.0, 10.0)[0]
    made = f"one second of sound made {twin.shape[0]} x {twin.shape[1]} with"
    if load_torchaudio() is None:
        return f"{made} plain torch, since torchaudio does not import"
    difference = float((filter_bank(second, 16_000, 128, 25.0, 10.0) - twin).abs().max())
    if not difference <= LARGEST_LOG_MEL_DIFFERENCE:
        raise ValueError(f"torchaudio and plain torch differ by {difference:.2g} in the log-mel")
    return f"{made} torchaudio; plain torch agrees to {LARGEST_LOG_MEL_DIFFERENCE:.0e}"


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
        raise _Absent(f"{found}; the full-size encoders want {LEAST_MEMORY_BYTES / 1e9:.0f}")
    return found


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 1e9:.1f} GB; 1000 clips take 2.4 GB"
    if free < LEAST_FREE_BYTES:
        raise _Absent(found)
    return found


def _kernels() -> str:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = cache_dir()
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise _Absent("none that torch can use")
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{gpu.name} {gpu.total_memory / 1e9:.0f} GB" for gpu in gpus) + _driver()


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return f", driver {answer.split()[0]}" if answer.split() else ""


def _bf16() -> str:
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise _Absent("this CPU has no instructions for it")
    return "supported"


def _compiler() -> str:
    names = (os.environ.get("CXX", ""), "g++", "clang++")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise _Absent("none found")
    return found


def _hub() -> str:
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise _Absent("huggingface_hub is not installed") from error
    cache = Path(constants.HF_HUB_CACHE)
    fetched = [name for name in HUB_MODELS if (cache / f"models--{name.replace('/', '--')}").is_dir()]
    version = metadata.version("huggingface_hub")
    return f"huggingface_hub {version}; fetched already: {', '.join(fetched) or 'none'}"
