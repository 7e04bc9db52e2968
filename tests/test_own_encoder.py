"""The example encoders all the way: real videos, a cache, two epochs of training, a report."""

import sys
from pathlib import Path

import pytest

import avcil
from avcil import cli
from avcil.cache import TokenCache
from avcil.demo.videos import DemoSpec, render_demo

ROOT = Path(avcil.__file__).resolve().parent
ENCODERS = (
    "--visual-encoder",
    "examples.own_encoder:visual",
    "--audio-encoder",
    "examples.own_encoder:audio",
)


def test_own_encoders_go_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    videos = render_demo(tmp_path / "demo", DemoSpec(train=2, val=1, test=1, min_s=0.5, max_s=0.7, fps=10))
    cache, run = tmp_path / "cache", tmp_path / "run"
    for command in (
        ("extract", videos, "--out", cache, *ENCODERS, "--workers", 0),
        ("train", cache, "--out", run, "--steps", 3, "--memory", 12, "--epochs", 2),
        ("eval", run),
    ):
        monkeypatch.setattr(sys, "argv", ["avcil", *map(str, command)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code, capsys.readouterr().err
    info = TokenCache(cache).info
    assert info.visual.shape == (16, 4, 32) and info.audio.shape == (24,)
    assert info.visual_encoder.name == "example-frames" and info.recipe["mel_bins"] == 64
    assert "AV-CIL, audio-visual" in capsys.readouterr().out
