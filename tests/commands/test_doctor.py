"""`avcil doctor`: finds what is broken or missing, gives the remedy, and never breaks itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command_line import avcil

from avcil.extract.mel import load_torchaudio


def examined(folder: Path) -> tuple[int, dict[str, Any]]:
    """`avcil doctor --json` where the packages in `folder` stand before the installed ones."""
    path = os.pathsep.join([str(folder), *sys.path])
    command = [sys.executable, "-m", "avcil", "doctor", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert not done.stderr, done.stderr
    found = json.loads(done.stdout)
    return done.returncode, {check["name"]: check for check in found["checks"]} | {"works": found["works"]}


def test_a_sound_machine() -> None:
    done = avcil("doctor")
    assert done.code == 0 and "BROKEN" not in done.out
    assert "decoding with PyAV: 16 frames and 1.0 s of sound" in done.out
    assert "decoding with decord: 16 frames" in done.out
    assert "ok     folder for kernels: " in done.out
    maker = "torchaudio; plain torch agrees" if load_torchaudio() else "plain torch, since"
    assert f"one second of sound made 98 x 128 with {maker}" in done.out


@pytest.mark.parametrize(
    ("module", "code", "broken", "remedy"),
    [
        ("decord", "raise ImportError('no such file')", {"decord2", "decoding with decord"}, "decord2"),
        ("jinja2", "raise ImportError('half of it')", {"jinja2"}, "pip install --force-reinstall jinja2"),
        ("torch", "1 / 0", {"torch", "torchaudio", "sound to spectrogram", "GPU"}, "torch>=2.11"),
    ],
)
def test_a_broken_package_is_found(
    module: str, code: str, broken: set[str], remedy: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    exit_code, found = examined(tmp_path)
    assert exit_code == 1 and found["works"] is False
    assert {name for name in broken if found[name]["state"] == "broken"} == broken
    assert all(remedy in found[name]["remedy"] for name in broken - {"GPU"})
    assert found["h5py"]["state"] == "ok"


def test_a_torchaudio_for_another_torch_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text("raise OSError('undefined symbol')")
    exit_code, found = examined(tmp_path)
    assert exit_code == 0 and found["works"] is True
    assert found["torchaudio"]["state"] == "absent" and "undefined symbol" in found["torchaudio"]["found"]
    assert "torch>=2.11" in found["torchaudio"]["remedy"]
    assert "98 x 128 with plain torch" in found["sound to spectrogram"]["found"]


def test_a_folder_for_kernels_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/kernels")
    done = avcil("doctor")
    assert done.code == 1 and "BROKEN folder for kernels" in done.out
    assert "set TORCHINDUCTOR_CACHE_DIR to a folder that can be written" in done.out
