"""Owns an extraction from plan to cache: what is missing, decoded, encoded in batches, written, counted.

Knows no media format and no way of showing progress: it tells a callback.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache
from avcil.errors import CacheError, ConfigError, DecodeError, ManifestError
from avcil.extract.decode import Backend, failure
from avcil.extract.encoders import build_audio_encoder, build_visual_encoder
from avcil.extract.manifest import Clip
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.preprocess import RECIPES
from avcil.extract.tokens import Precision, TokenEncoder
from avcil.extract.workers import PoolOptions, process

BATCH_CPU, BATCH_GPU = 8, 32
SPARE_BYTES = 64 * 2**20  # left free beside the tokens, for the small files and for others


@dataclass(frozen=True)
class ExtractOptions:
    """How to extract. `workers=None`: one per core; 0: in this process. `batch=None`: by device.

    `deadline_s`: seconds a clip may take to decode. `retry_failed`: try clips again that failed before.
    `compile`: run the encoders through torch.compile.
    """

    visual_encoder: str = "videomae-base"
    audio_encoder: str = "audiomae-base"
    visual_weights: str | None = None
    audio_weights: str | None = None
    recipe: str = "recommended"
    decoder: Backend = "auto"
    workers: int | None = None
    batch: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    deadline_s: float = 60.0
    retry_failed: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("recipe", self.recipe, tuple(RECIPES)),
            ("decoder", self.decoder, get_args(Backend)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        for name, number, least in (("workers", self.workers, 0), ("batch", self.batch, 1)):
            if number is not None and number < least:
                raise ConfigError(f"{name} is {number}; it must be at least {least}")
        if not self.deadline_s > 0:
            raise ConfigError(f"deadline_s is {self.deadline_s}; it must be above 0")


@dataclass(frozen=True)
class Progress:
    """Where an extraction stands: of `total` clips, those there `already`, decoded, done, and failed."""

    total: int
    already: int
    decoded: int
    done: int
    failed: int
    elapsed_s: float


@dataclass(frozen=True)
class Failure:
    """A clip without tokens: its id, one of `decode.KINDS`, and the detail for people."""

    id: str
    kind: str
    detail: str


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did: clips encoded now, there before, and failed, with the time it took."""

    done: int
    already: int
    failures: list[Failure]
    elapsed_s: float

    @property
    def failed_by_kind(self) -> dict[str, int]:
        """Number of failed clips by kind, the commonest first."""
        return dict(Counter(failure.kind for failure in self.failures).most_common())

    @property
    def clips_per_s(self) -> float:
        """Clips encoded per second of this run."""
        return self.done / self.elapsed_s if self.elapsed_s else 0.0


def build_token_encoder(options: ExtractOptions) -> TokenEncoder:
    """Build both encoders with the recipe on the device; raises `EncoderError`."""
    visual = build_visual_encoder(options.visual_encoder, options.visual_weights)
    audio = build_audio_encoder(options.audio_encoder, options.audio_weights)
    recipe = RECIPES[options.recipe]
    return TokenEncoder.make(
        visual, audio, recipe, options.device, options.precision, compiled=options.compile
    )


def extract(
    clips: Sequence[Clip],
    out: Path,
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
) -> ExtractSummary:
    """Encode the clips that the cache at `out` lacks, and note those that cannot be.

    `on_progress` is called in this thread, after every decoded clip and every batch. Interrupted, it leaves a
    whole cache, and the next call goes on from there. Raises `EncoderError`, `CacheError`, and
    `ManifestError` where no clip at all has tokens; a cache begun here without a token is then removed.
    """
    encoder = build_token_encoder(options)
    manifest = [CacheClip(clip.id, clip.label, clip.split, _source(clip)) for clip in clips]
    _require_space(out, manifest, encoder.info)
    had_folder = out.exists()
    is_new = not had_folder or (out.is_dir() and not any(out.iterdir()))
    job = _Job(encoder, options, on_progress or (lambda progress: None))
    try:
        with CacheWriter.open(out, encoder.info, manifest) as writer:
            job.run(clips, writer)
            summary = job.summary(writer)
        if not (summary.done or summary.already):
            raise ManifestError(_all_failed(summary))
    except BaseException:
        if is_new and job.done == 0:
            _remove(out, keep_folder=had_folder)
        raise
    return summary


@dataclass
class _Job:
    """The running counts of one extraction."""

    encoder: TokenEncoder
    options: ExtractOptions
    on_progress: Callable[[Progress], None]
    total: int = 0
    already: int = 0
    decoded: int = 0
    done: int = 0
    failed: int = 0
    _began_s: float = field(default_factory=time.monotonic)

    def run(self, clips: Sequence[Clip], writer: CacheWriter) -> None:
        """Fill the cache with what it lacks."""
        lacking = set(writer.missing)
        self.total, self.already = len(clips), len(clips) - len(lacking)
        todo = [
            clip
            for clip in clips
            if clip.id in lacking and (self.options.retry_failed or clip.id not in writer.failures)
        ]
        self.failed = len(lacking) - len(todo)
        size = self.options.batch or (BATCH_GPU if self.encoder.device.type == "cuda" else BATCH_CPU)
        work = Preparation(self.encoder.recipe, self.options.decoder)
        batch: dict[str, PreparedClip] = {}
        self._tell()
        with contextlib.closing(process(todo, work, self._pool(len(todo), size))) as outcomes:
            for outcome in outcomes:
                self.decoded += 1
                if isinstance(outcome.value, DecodeError):
                    self._fail(outcome.clip.id, outcome.value, writer)
                else:
                    batch[outcome.clip.id] = outcome.value
                if len(batch) == size:
                    self._encode(batch, writer)
                    batch = {}
                self._tell()
        if batch:
            self._encode(batch, writer)
            self._tell()

    def summary(self, writer: CacheWriter) -> ExtractSummary:
        """Count up, with the failures noted in the cache for the clips of this job."""
        lacking = set(writer.missing)
        failures = [Failure(id, *why) for id, why in writer.failures.items() if id in lacking]
        return ExtractSummary(self.done, self.already, failures, time.monotonic() - self._began_s)

    def _pool(self, n_clips: int, batch: int) -> PoolOptions:
        workers = (os.cpu_count() or 1) if self.options.workers is None else self.options.workers
        return PoolOptions(min(workers, max(1, n_clips)), self.options.deadline_s, ready=batch)

    def _encode(self, batch: dict[str, PreparedClip], writer: CacheWriter) -> None:
        tokens = self.encoder.encode(list(batch.values()))
        ids = list(batch)
        finite = np.isfinite(tokens.visual).all((1, 2, 3)) & np.isfinite(tokens.audio).all(1)
        for i in np.flatnonzero(~finite):
            detail = "the encoders give infinite or undefined tokens; try another --precision"
            self._fail(ids[i], failure("not-finite", detail), writer)
        writer.write([ids[i] for i in np.flatnonzero(finite)], tokens.visual[finite], tokens.audio[finite])
        self.done += int(finite.sum())

    def _fail(self, id: str, error: DecodeError, writer: CacheWriter) -> None:
        writer.record_failure(id, error.kind, error.detail)
        self.failed += 1

    def _tell(self) -> None:
        elapsed_s = time.monotonic() - self._began_s
        self.on_progress(Progress(self.total, self.already, self.decoded, self.done, self.failed, elapsed_s))


def _source(clip: Clip) -> str:
    """Say which file and part a clip is, wherever the data set lies: folder, name, `#t=start,end`."""
    name = "/".join(clip.path.absolute().parts[-2:]).encode("utf-8", "surrogateescape")
    window = (clip.start_s, clip.end_s)
    part = "" if window == (None, None) else "#t=" + ",".join("" if s is None else f"{s:g}" for s in window)
    return name.decode("utf-8", "backslashreplace") + part


def _require_space(out: Path, manifest: Sequence[CacheClip], info: CacheInfo) -> None:
    known = {clip.id for clip in TokenCache(out).clips} if (out / "cache.json").exists() else set()
    n_new = sum(clip.id not in known for clip in manifest)
    needed_bytes = n_new * (info.visual.row_bytes + info.audio.row_bytes) + SPARE_BYTES
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free_bytes = shutil.disk_usage(folder).free
    if n_new and needed_bytes > free_bytes:
        raise CacheError(
            f"{out}: the tokens of {n_new} clips need {needed_bytes / 1e9:.2f} GB and "
            f"{free_bytes / 1e9:.2f} GB are free: make room or choose another disk"
        )


def _all_failed(summary: ExtractSummary) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.failed_by_kind.items())
    first = summary.failures[0]
    return (
        f"none of the {len(summary.failures)} clips could be encoded ({kinds}); the first, {first.id!r}: "
        f"{first.kind}: {first.detail}"
    )


def _remove(out: Path, *, keep_folder: bool) -> None:
    if not out.is_dir():
        return
    for entry in out.iterdir() if keep_folder else []:
        entry.unlink()
    if not keep_folder:
        shutil.rmtree(out)
