"""Several devices: errors that keep their cause, interruptions and deaths that lose nothing."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.child_processes import children
from support.clip_files import write_clip

from avcil.cache import TokenCache
from avcil.errors import CacheError, EncoderError
from avcil.extract.engine import Progress, extract
from avcil.extract.options import ExtractOptions
from avcil.extract.sources.clip import Clip

TWO = ExtractOptions("demo", "demo", workers=2, batch=2, device="cpu,cpu")
BAD_ENCODER = """
import torch
from avcil.extract.encoders.encoder import Encoder
from avcil.extract.encoders.inputs import FramesInput

class Bad(torch.nn.Module):
    def forward(self, x):
        return 1 / 0

def make(weights):
    return Encoder(Bad(), "bad", FramesInput(n_frames=4, image_size=32), (4, 1, 8))
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    for i in range(3):
        write_clip(folder / f"{i}.mp4", n_frames=18, seconds=1.5)
    return [Clip(f"{i}", folder / f"{i}.mp4", "x", "train") for i in range(3)]


def test_a_failing_encoder_keeps_its_cause(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_encoder.py").write_text(BAD_ENCODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = replace(TWO, visual_encoder="bad_encoder:make")
    with pytest.raises(EncoderError, match="ZeroDivisionError"):
        extract(clips, tmp_path / "cache", options)


def many(clips: list[Clip], folder: Path) -> list[Clip]:
    """Sixty clips of a few files, every tenth of which is not there."""
    return [
        replace(clips[i % 3], id=f"{i:02d}", path=clips[i % 3].path if i % 10 else folder / "nowhere.mp4")
        for i in range(60)
    ]


def test_an_interruption_takes_what_the_devices_have_to_report(clips: list[Clip], tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(many(clips, tmp_path), tmp_path / "cache", TWO, interrupt)
    assert children("avcil.extract.child") == []
    cache = TokenCache(tmp_path / "cache")
    stored = [clip.id for clip in cache.clips if cache.has(clip.id)]
    assert len(stored) >= 4 and "00" in cache.failures
    again = extract(many(clips, tmp_path), tmp_path / "cache", TWO)
    assert (again.already, again.already + again.done) == (len(stored), 54)


def test_what_a_killed_process_had_stored_stays(clips: list[Clip], tmp_path: Path) -> None:
    def kill(progress: Progress) -> None:
        if progress.done >= 4:
            for process in children("avcil.extract.child"):
                os.kill(process, signal.SIGKILL)

    with pytest.raises(EncoderError, match=r"the process of device cpu died \(signal 9\)"):
        extract(many(clips, tmp_path), tmp_path / "cache", TWO, kill)
    assert children("avcil.extract.child") == []
    assert len(TokenCache(tmp_path / "cache").failures) <= 6
    cache = TokenCache(tmp_path / "cache")
    assert sum(cache.has(clip.id) for clip in cache.clips) >= 4


def test_precisions_are_not_mixed(clips: list[Clip], tmp_path: Path) -> None:
    one = replace(TWO, device="cpu", workers=0)
    extract(clips[:1], tmp_path / "cache", one)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["precision"] == "fp32"
    with pytest.raises(CacheError, match="precision: the cache has 'fp32', asked for 'bf16'"):
        extract(clips, tmp_path / "cache", replace(one, precision="bf16"))
    assert extract(clips, tmp_path / "cache", one).done == 2
    assert TokenCache(tmp_path / "cache").info.precision == "fp32"


def test_gpus_are_described_in_their_own_precision(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU describes the tokens of several GPUs: that it has no fp16 must not refuse them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = replace(TWO, device="cuda:0,cuda:1", precision="fp16")
    with pytest.raises(EncoderError, match="there is no such GPU here"):
        extract(clips, tmp_path / "cache", options)


@pytest.mark.parametrize("device", ["mps", "meta", "nonsense"])
def test_other_devices_are_refused(device: str, clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="give auto"):
        extract(clips, tmp_path / "cache", replace(TWO, device=device))
