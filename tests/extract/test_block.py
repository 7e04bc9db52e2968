"""Blocks: planned alike every time, reported in plain data, silent clips flagged before they count."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from support.clip_files import write_clip

from avcil.cache import CacheClip, CacheWriter, RowWriter, TokenCache
from avcil.errors import CacheError, DecodeError
from avcil.extract.block import Block, BlockReport, BlockRunner, TokenStore, plan_blocks
from avcil.extract.options import ExtractOptions, build_token_encoder
from avcil.extract.sources.clip import Clip
from avcil.extract.workers import ClipResult

DEMO = ExtractOptions("demo", "demo", workers=0, batch=2, device="cpu", allow_missing=frozenset({"audio"}))


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    """Three clips, one without sound, one that is not there."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "loud.mp4", n_frames=18, seconds=1.5)
    write_clip(folder / "silent.mp4", audio=None)
    names = ("loud", "silent", "nowhere")
    return Block(0, 0, tuple(Clip(name, folder / f"{name}.mp4", "x", "train") for name in names))


def run(block: Block, store: TokenStore) -> tuple[BlockReport, BaseException | None]:
    """The last report of a block, and what its run raises."""
    reports: list[BlockReport] = []
    runner = BlockRunner(DEMO, build_token_encoder(DEMO), store, reports.append)
    try:
        runner.run_blocks([block])
    except Exception as error:
        return reports[-1], error
    return reports[-1], None


def test_a_row_lies_in_the_same_block_every_time() -> None:
    rows = {f"{i}": (i % 2, i // 2) for i in range(1200)}
    clips = [Clip(id, Path(id), "x", "train") for id in rows]
    blocks = plan_blocks(clips, rows, 32)
    starts = [(block.shard, block.first_row) for block in blocks]
    assert starts == [(shard, first) for shard in (0, 1) for first in (0, 256, 512)]
    assert sorted(clip.id for block in blocks for clip in block.clips) == sorted(rows)
    later = plan_blocks(reversed(clips[700:]), rows, 32)
    assert [(block.shard, block.first_row) for block in later] == [(0, 256), (0, 512), (1, 256), (1, 512)]
    assert later[1] == blocks[2]


@pytest.mark.parametrize(("batch", "rows_a_block"), [(8, 256), (48, 288), (300, 300), (1, 256)])
def test_blocks_are_whole_batches(batch: int, rows_a_block: int) -> None:
    rows = {f"{i}": (0, i) for i in range(600)}
    blocks = plan_blocks([Clip(id, Path(id), "x", "train") for id in rows], rows, batch)
    assert len(blocks[0].clips) == rows_a_block


@dataclass
class Stored:
    """Remembers what a block gave it, in order; `error` is raised instead of storing."""

    error: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def record_flags(self, flags: Mapping[str, str]) -> None:
        self.calls += [f"{id} {flag}" for id, flag in flags.items()]

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        if self.error is not None:
            raise self.error
        self.calls += ids


def test_silent_clips_are_flagged_and_then_stored(block: Block, tmp_path: Path) -> None:
    info = build_token_encoder(DEMO).info
    with CacheWriter.open(tmp_path, info, [CacheClip(clip.id, "x", "train") for clip in block.clips]):
        rows = RowWriter.of_cache(tmp_path, info)
        report, error = run(block, rows)
        rows.close()
    assert error is None and report.ended and report.stored == ["loud", "silent"]
    assert {id: one.kind for id, one in report.failures.items()} == {"nowhere": "missing"}
    cache = TokenCache(tmp_path)
    assert cache.flags == {"silent": "missing-audio"}
    assert np.isfinite(cache.read(["loud", "silent"]).audio).all()
    store = Stored()
    run(block, store)
    assert store.calls == ["silent missing-audio", "loud", "silent"]


def test_a_report_is_small_plain_data(block: Block) -> None:
    report, _ = run(block, Stored())
    text = pickle.dumps(report)
    read = pickle.loads(text)
    assert len(text) < 2000
    assert (read.stored, read.ended) == (["loud", "silent"], True)
    assert isinstance(read.failures["nowhere"], DecodeError) and read.times == report.times
    assert report.times.decode_s > 0 and report.times.encode_s > 0


def test_what_stops_a_block_is_part_of_its_report(block: Block) -> None:
    missing_first = replace(block, clips=block.clips[::-1])
    report, error = run(missing_first, Stored(CacheError("the disk is full")))
    assert isinstance(report.error, CacheError) and report.error is error
    assert report.ended and report.stored == [] and list(report.failures) == ["nowhere"]


def test_a_failing_encoder_leaves_what_was_stored(block: Block) -> None:
    store = Stored()
    encoder, reports = build_token_encoder(DEMO), list[BlockReport]()
    runner = BlockRunner(DEMO, encoder, store, reports.append)
    good = runner.encoder.visual_forward
    calls: list[int] = []

    def once(frames: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            raise ZeroDivisionError
        return good(frames)  # type: ignore[arg-type]

    failing = replace(runner, encoder=replace(encoder, visual_forward=once))  # type: ignore[arg-type]
    clips = tuple(replace(block.clips[0], id=f"{i}") for i in range(4))
    with pytest.raises(ZeroDivisionError):
        failing.run_blocks([Block(0, 0, clips)])
    assert reports[-1].stored == store.calls == ["0", "1"]


def test_clips_without_a_result_do_not_hide_the_error(block: Block) -> None:
    runner = BlockRunner(DEMO, build_token_encoder(DEMO), Stored(), lambda report: None)

    def decoded() -> object:
        yield ClipResult(block.clips[2], DecodeError("missing", "no such file"))
        raise KeyboardInterrupt

    report = runner.run_block(block, decoded())  # type: ignore[arg-type]
    assert isinstance(report.error, KeyboardInterrupt) and list(report.failures) == ["nowhere"]
