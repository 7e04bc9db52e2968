"""An extraction: what a cache has not is cut into blocks, these are run, their reports go into its tables."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from avcil.cache import CacheClip, CacheInfo, CacheWriter, RowWriter, TokenCache
from avcil.errors import CacheError, EncoderError, ManifestError
from avcil.extract.block import BlockReport, BlockRunner, StageTimes, plan_blocks
from avcil.extract.local import run_on_devices
from avcil.extract.options import ExtractOptions, build_token_encoder
from avcil.extract.sources.clip import Clip
from avcil.extract.tokens import TokenEncoder, device_names, precision_on

SPARE_BYTES = 64 * 2**20  # left free beside the tokens, for the small files and for others


@dataclass(frozen=True)
class Progress:
    """Where an extraction stands: of `total` clips, those there `already`, done now, and failed."""

    total: int
    already: int
    done: int
    failed: int
    elapsed_s: float


@dataclass(frozen=True)
class DiskNeed:
    """Clips that are new to a cache, bytes that their tokens will take, and bytes free on the disk."""

    new_clips: int
    needed_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Failure:
    """A clip without tokens: its id, one of `FAILURE_KINDS`, and the detail for people."""

    id: str
    kind: str
    detail: str


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did: clips encoded now, there before, and failed, with the time it took."""

    done: int
    already: int
    failures: list[Failure]
    times: StageTimes
    others: int = 0  # clips of earlier extractions that the cache keeps and this call did not ask for

    @property
    def elapsed_s(self) -> float:
        """Wall time of this run, in seconds, once the encoders were built."""
        return self.times.elapsed_s

    @property
    def verdict(self) -> str:
        """Which stage bound the run, in a line."""
        busy = ", ".join(f"{stage} {share:.0%}" for stage, share in self.times.busy.items())
        return f"bound by {self.times.bound_by} (busy: {busy}; {self.times.workers} decode workers)"

    @property
    def failed_by_kind(self) -> dict[str, int]:
        """Number of failed clips by kind, the commonest first."""
        return dict(Counter(failure.kind for failure in self.failures).most_common())

    @property
    def clips_per_s(self) -> float:
        """Clips encoded per second of this run."""
        return self.done / self.elapsed_s if self.elapsed_s else 0.0


def extract(
    clips: Sequence[Clip],
    out: Path,
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
    on_start: Callable[[DiskNeed], None] | None = None,
) -> ExtractSummary:
    """Encode the clips that are missing in the cache at `out`, and note those that cannot be.

    `on_start` is called once, before anything is written; `on_progress` is called in this thread, after every
    clip and batch, on several devices twice a second. Interrupted, it leaves a whole cache, and the next call
    goes on from there. Raises `EncoderError`, `CacheError`, and `ManifestError` where there are no clips or
    none has tokens; a cache begun here without a token is then removed.
    """
    if not clips:
        raise ManifestError("there are no clips to extract: the list is empty")
    devices = device_names(options.device)
    info, encoder = _describe(options, devices)
    manifest = [CacheClip(clip.id, clip.label, clip.split, _source(clip)) for clip in clips]
    need = _disk_need(out, manifest, info)
    if on_start is not None:
        on_start(need)
    with CacheWriter.open(out, info, manifest, shards=len(devices)) as writer:
        try:
            summary = _fill(clips, encoder, writer, options, devices, on_progress)
            if not (summary.done or summary.already):
                raise ManifestError(_all_failed(summary))
        except BaseException:
            writer.discard()
            raise
    return summary


def _describe(options: ExtractOptions, devices: Sequence[str]) -> tuple[CacheInfo, TokenEncoder | None]:
    """What the tokens are, and the encoder where this process is the one that uses it."""
    if len(devices) == 1:
        encoder = build_token_encoder(replace(options, device=devices[0]))
        return encoder.info, encoder
    precisions = {precision_on(device, options.precision) for device in devices}
    if len(precisions) > 1:
        raise EncoderError(f"devices {options.device!r} differ in precision: give --precision fp32 or bf16")
    described = build_token_encoder(replace(options, device="cpu", precision="fp32", compile=False))
    return replace(described.info, precision=precisions.pop()), None


def _fill(
    clips: Sequence[Clip],
    encoder: TokenEncoder | None,
    writer: CacheWriter,
    options: ExtractOptions,
    devices: Sequence[str],
    on_progress: Callable[[Progress], None] | None,
) -> ExtractSummary:
    """Run the blocks of the clips that are missing, in this process or on several devices."""
    missing = set(writer.missing)
    todo = [
        clip
        for clip in clips
        if clip.id in missing and (options.retry_failed or clip.id not in writer.failures)
    ]
    per_device = [options.shared_out(device, len(todo), len(devices)) for device in devices]
    rows = RowWriter.of_cache(writer.path, writer.info)
    blocks = plan_blocks(todo, rows.row, max(one.batch_size for one in per_device))
    times = StageTimes(sum(max(1, one.decode_workers) for one in per_device), len(devices))
    already, failed_before = len(clips) - len(missing), len(missing) - len(todo)
    tables = _Tables(writer, rows, Progress(len(clips), already, 0, failed_before, 0.0), times, on_progress)
    try:
        if encoder is not None:
            BlockRunner(per_device[0], encoder, rows, tables.take).run_blocks(blocks)
        elif blocks:
            run_on_devices(blocks, per_device, rows, tables.take, tables.show_rows)
    finally:
        writer.note_written(tables.written_ids())  # what a process that died could not report, too
        rows.close()
    still_missing = set(writer.missing)
    failures = [Failure(id, *why) for id, why in writer.failures.items() if id in still_missing]
    return ExtractSummary(len(missing) - len(still_missing), already, failures, times, writer.unrequested)


@dataclass
class _Tables:
    """Block reports on their way into the tables of a cache, and how far they bring the extraction."""

    writer: CacheWriter
    rows: RowWriter
    progress: Progress  # after the blocks that have ended
    times: StageTimes
    on_progress: Callable[[Progress], None] | None
    _began_s: float = field(default_factory=time.monotonic)
    _rows_before: int = 0

    def __post_init__(self) -> None:
        self._rows_before = self._rows_written()

    def take(self, report: BlockReport) -> None:
        """Show a report, and enter it once its block has ended."""
        now = replace(
            self.progress,
            done=self.progress.done + len(report.stored),
            failed=self.progress.failed + len(report.failures),
        )
        if report.ended:
            self.progress = now
            self._enter(report)
        if report.error is None:
            self._show(now)

    def _enter(self, report: BlockReport) -> None:
        now_s = time.monotonic()
        if not self.times.elapsed_s:  # a device's process has built its encoders before its first block
            self._began_s = now_s - report.times.elapsed_s
        self.times.elapsed_s = now_s - self._began_s
        self.times.add(report.times)
        self.writer.note_written(report.stored)
        for clip_id, error in report.failures.items():
            self.writer.record_failure(clip_id, error.kind, error.detail)

    def show_rows(self) -> None:
        """Show what the shards themselves say, whoever writes them."""
        written = self._rows_written() - self._rows_before
        self._show(replace(self.progress, done=max(self.progress.done, written)))

    def written_ids(self) -> list[str]:
        """The ids of all rows that have tokens."""
        return [shard.ids[row] for shard, _ in self.rows.shards for row in shard.read_crcs().nonzero()[0]]

    def _rows_written(self) -> int:
        return sum(int(np.count_nonzero(shard.read_crcs())) for shard, _ in self.rows.shards)

    def _show(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(replace(progress, elapsed_s=time.monotonic() - self._began_s))


def _source(clip: Clip) -> str:
    """Which file and part a clip is, wherever the data set lies: folder, name, `#t=start,end`.

    Empty for a file that is not there: it may turn up under another name.
    """
    if not clip.path.is_file():
        return ""
    name = "/".join(clip.path.absolute().parts[-2:]).encode("utf-8", "surrogateescape")
    window = (clip.start_s, clip.end_s)
    part = "" if window == (None, None) else "#t=" + ",".join("" if s is None else f"{s:g}" for s in window)
    return name.decode("utf-8", "backslashreplace") + part


def _disk_need(out: Path, manifest: Sequence[CacheClip], info: CacheInfo) -> DiskNeed:
    """Measure, and raise `CacheError` where the tokens cannot fit."""
    known = {clip.id for clip in TokenCache(out).clips} if (out / "cache.json").exists() else set()
    n_new = sum(clip.id not in known for clip in manifest)
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    row_bytes = info.visual.row_bytes + info.audio.row_bytes
    need = DiskNeed(n_new, n_new * row_bytes, shutil.disk_usage(folder).free)
    least_bytes = need.needed_bytes + SPARE_BYTES
    if n_new and least_bytes > need.free_bytes:
        raise CacheError(
            f"{out}: the tokens of {n_new} clips need {least_bytes / 1e9:.2f} GB and "
            f"{need.free_bytes / 1e9:.2f} GB are free: make room or choose another disk"
        )
    return need


def _all_failed(summary: ExtractSummary) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.failed_by_kind.items())
    first = summary.failures[0]
    return (
        f"none of the {len(summary.failures)} clips could be encoded ({kinds}); the first, {first.id!r}: "
        f"{first.kind}: {first.detail}"
    )
