"""Child processes: programs without a `__main__` guard, and the death of the parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.child_processes import children
from support.clip_files import write_clip

from avcil.cache import TokenCache

SCRIPT = """
import os, sys
from pathlib import Path
print("once")
folder = Path(os.environ["CLIPS"])
from avcil.extract.engine import extract
from avcil.extract.options import ExtractOptions
from avcil.extract.sources.clip import Clip
clips = [Clip(str(i), folder / "0.mp4", "x", "train") for i in range(int(os.environ.get("N", "4")))]
options = ExtractOptions("demo", "demo", workers=2, batch=2, device=os.environ["DEVICES"])
show = lambda now: print("done", now.done, flush=True)
print(extract(clips, folder / "cache", options, show).done, "at last")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clip(tmp_path / "0.mp4", n_frames=18, seconds=1.5)
    return tmp_path


def start(folder: Path, how: str, devices: str, n: int = 4) -> "subprocess.Popen[str]":
    (folder / "script.py").write_text(SCRIPT)
    given = [str(folder / "script.py")] if how == "file" else []
    with (folder / "script.py").open() as file:
        return subprocess.Popen(
            [sys.executable, *given],
            stdin=file if how == "stdin" else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "CLIPS": str(folder),
                "DEVICES": devices,
                "N": str(n),
            },
        )


@pytest.mark.parametrize(("how", "devices"), [("file", "cpu,cpu"), ("stdin", "cpu")])
def test_a_script_needs_no_guard(folder: Path, how: str, devices: str) -> None:
    out, errors = start(folder, how, devices).communicate(timeout=120)
    assert errors == ""
    assert out.splitlines()[0] == "once" and out.splitlines()[-1] == "4 at last"
    assert out.count("once") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_killed_program_leaves_tokens_and_no_process(folder: Path) -> None:
    with start(folder, "file", "cpu,cpu", n=400) as script:
        assert script.stdout
        while not (line := script.stdout.readline()).startswith("done") or int(line.split()[1]) < 2:
            assert line
        started = children("avcil.extract.child", str(script.pid))
        assert started
        os.kill(script.pid, signal.SIGKILL)
        script.communicate(timeout=20)
    end_s = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in started):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    cache = TokenCache(folder / "cache")
    assert sum(cache.has(clip.id) for clip in cache.clips) >= 2
