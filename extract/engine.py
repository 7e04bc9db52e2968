"""Owns an extraction from plan to cache: what is missing, decoded, encoded in batches, written, counted.

Knows no media format and no way of showing progress: it tells a callback.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache
from avcil.errors import CacheError, ConfigError, EncoderError, ManifestError
from avcil.extract.devices import device_names, run_on_devices
from avcil.extract.encoders.registry import build_encoder
from avcil.extract.media.contract import Backend, Track
from avcil.extract.pipeline import Counts, Plan, StageTimes, run_pipeline
from avcil.extract.recipe import RECIPES
from avcil.extract.sources.manifest import Clip
from avcil.extract.tokens import Precision, TokenEncoder, TokenType, precision_on
from avcil.extract.workers import PoolOptions

BATCH_CPU, BATCH_GPU = 8, 32
SPARE_BYTES = 64 * 2**20  # left free beside the tokens, for the small files and for others


@dataclass(frozen=True)
class ExtractOptions:
    """How to extract. `workers=None`: one per core; 0: in this process. `batch=None`: by device.

    `deadline_s`: seconds a clip may take to decode. `retry_failed`: try clips again that failed before.
    `allow_missing`: {"audio"} encodes a clip without sound with silence, and flags it.
    `compile`: run the encoders through torch.compile. `tokens`: what a cache stores visual tokens in.
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
    allow_missing: frozenset[Track] = frozenset()
    compile: bool = False
    tokens: TokenType = "float16"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("recipe", self.recipe, tuple(RECIPES)),
            ("decoder", self.decoder, get_args(Backend)),
            ("precision", self.precision, get_args(Precision)),
            ("tokens", self.tokens, get_args(TokenType)),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        for name, number, least in (("workers", self.workers, 0), ("batch", self.batch, 1)):
            if number is not None and number < least:
                raise ConfigError(f"{name} is {number}; it must be at least {least}")
        for track in self.allow_missing - set(get_args(Track)):
            raise ConfigError(f"allow_missing is {track!r}; only the audio may be missing")
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
class Space:
    """What an extraction will take: clips new to the cache, bytes of their tokens, bytes free on the disk."""

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


def build_token_encoder(options: ExtractOptions) -> TokenEncoder:
    """Build both encoders with the recipe on the device; raises `EncoderError`."""
    visual = build_encoder("visual", options.visual_encoder, options.visual_weights)
    audio = build_encoder("audio", options.audio_encoder, options.audio_weights)
    recipe = RECIPES[options.recipe]
    return TokenEncoder.make(
        visual,
        audio,
        recipe,
        options.device,
        options.precision,
        compiled=options.compile,
        tokens=options.tokens,
    )


def extract(
    clips: Sequence[Clip],
    out: Path,
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
    on_start: Callable[[Space], None] | None = None,
) -> ExtractSummary:
    """Encode the clips that the cache at `out` lacks, and note those that cannot be.

    `on_start` is called once, before anything is written; `on_progress` is called in this thread, after every
    decoded clip and every batch. Interrupted, it leaves a whole cache, and the next call goes on from there.
    Raises `EncoderError`, `CacheError`, and `ManifestError` where no clip at all has tokens; a cache begun
    here without a token is then removed.
    """
    devices = device_names(options.device)
    info, encoder = _describe(options, devices)
    manifest = [CacheClip(clip.id, clip.label, clip.split, _source(clip)) for clip in clips]
    space = _space(out, manifest, info)
    if on_start is not None:
        on_start(space)
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
    """Run the pipeline over the clips that the cache lacks, in this process or on several devices."""
    counts = Counts()
    lacking = set(writer.missing)
    todo = [
        clip
        for clip in clips
        if clip.id in lacking and (options.retry_failed or clip.id not in writer.failures)
    ]
    already, failed_before = len(clips) - len(lacking), len(lacking) - len(todo)
    plans = [plan_on(device, options, len(todo), len(devices)) for device in devices]
    began_s = time.monotonic()

    def tell() -> None:
        if on_progress is not None:
            elapsed_s = time.monotonic() - began_s
            failed = failed_before + counts.failed
            on_progress(Progress(len(clips), already, counts.decoded, counts.stored, failed, elapsed_s))

    if encoder is not None:
        times = run_pipeline(plans[0], todo, encoder, writer, counts, tell)
    else:
        times = run_on_devices(plans, todo, writer, counts, tell)
    still_lacking = set(writer.missing)
    failures = [Failure(id, *why) for id, why in writer.failures.items() if id in still_lacking]
    return ExtractSummary(counts.stored, already, failures, times, writer.unrequested)


def plan_on(device: str, options: ExtractOptions, n_clips: int, n_devices: int = 1) -> Plan:
    """How one of several devices encodes its share of n clips; decode workers are shared out."""
    batch_size = options.batch or (BATCH_GPU if device.startswith("cuda") else BATCH_CPU)
    cores = (os.cpu_count() or 1) if options.workers is None else options.workers
    workers = min(-(-cores // n_devices), max(1, n_clips))
    pool = PoolOptions(workers, options.deadline_s, ready=batch_size)
    return Plan(
        device=device,
        build_encoder=partial(build_token_encoder, replace(options, device=device)),
        backend=options.decoder,
        allow_missing=options.allow_missing,
        pool=pool,
        batch_size=batch_size,
    )


def _source(clip: Clip) -> str:
    """Say which file and part a clip is, wherever the data set lies: folder, name, `#t=start,end`.

    A file that is not there may turn up under another name: nothing is said of it.
    """
    if not clip.path.is_file():
        return ""
    name = "/".join(clip.path.absolute().parts[-2:]).encode("utf-8", "surrogateescape")
    window = (clip.start_s, clip.end_s)
    part = "" if window == (None, None) else "#t=" + ",".join("" if s is None else f"{s:g}" for s in window)
    return name.decode("utf-8", "backslashreplace") + part


def _space(out: Path, manifest: Sequence[CacheClip], info: CacheInfo) -> Space:
    """Measure, and raise `CacheError` where the tokens cannot fit."""
    known = {clip.id for clip in TokenCache(out).clips} if (out / "cache.json").exists() else set()
    n_new = sum(clip.id not in known for clip in manifest)
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    row_bytes = info.visual.row_bytes + info.audio.row_bytes
    space = Space(n_new, n_new * row_bytes, shutil.disk_usage(folder).free)
    least_bytes = space.needed_bytes + SPARE_BYTES
    if n_new and least_bytes > space.free_bytes:
        raise CacheError(
            f"{out}: the tokens of {n_new} clips need {least_bytes / 1e9:.2f} GB and "
            f"{space.free_bytes / 1e9:.2f} GB are free: make room or choose another disk"
        )
    return space


def _all_failed(summary: ExtractSummary) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.failed_by_kind.items())
    first = summary.failures[0]
    return (
        f"none of the {len(summary.failures)} clips could be encoded ({kinds}); the first, {first.id!r}: "
        f"{first.kind}: {first.detail}"
    )
