"""Several devices: one stream of reports a process, errors that keep their cause."""

import json
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.clip_files import write_clip

from avcil.cache import TokenCache
from avcil.errors import CacheError, EncoderError
from avcil.extract import devices
from avcil.extract.engine import ExtractOptions, extract
from avcil.extract.sources.manifest import Clip

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


def test_reports_of_two_threads_stay_whole() -> None:
    """More than a pipe holds, from both threads of a device's process, against a slow listener."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    send = devices.one_at_a_time(theirs)
    long_ids = [f"{i:0160d}" for i in range(256)]

    def report(name: str) -> None:
        for _ in range(40):
            send((name, long_ids))

    writers = [threading.Thread(target=report, args=(name,)) for name in ("stored", "decoded")]
    for writer in writers:
        writer.start()
    received: list[Any] = [ours.recv() for _ in range(80)]
    assert all(ids == long_ids for _, ids in received)
    assert {name for name, _ in received} == {"stored", "decoded"}
    for writer in writers:
        writer.join()


def test_a_failing_encoder_keeps_its_cause(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_encoder.py").write_text(BAD_ENCODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = replace(TWO, visual_encoder="bad_encoder:make")
    with pytest.raises(EncoderError, match="ZeroDivisionError"):
        extract(clips, tmp_path / "cache", options)


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
