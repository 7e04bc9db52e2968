"""Published features made into a cache, and why a clip of theirs cannot be used.

Letters: T time, S space, D width.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avcil.cache.row import LARGEST
from avcil.cache.schema import CacheClip, CacheInfo
from avcil.cache.token_spec import TokenSpec
from avcil.cache.writer import CacheWriter
from avcil.errors import CacheError, ConfigError
from avcil.published.features import Features, Hdf5Features
from avcil.published.layout import listed_clips, released_encoder, released_shapes

BATCH_BYTES = 80 * 10**6  # of float32 tokens: 16 published clips; about three batches are in memory at once
MAX_BATCH = 1000  # clips
_LARGEST = {
    "float16": float(np.finfo(np.float16).max),
    "int8": LARGEST,
}  # what a token may be, by number type

Failure = tuple[str, str]  # kind, detail


@dataclass(frozen=True)
class ImportPlan:
    """What an import will store: clips, what their tokens are, and the name of their recipe."""

    clips: list[CacheClip]
    info: CacheInfo
    recipe: str

    @classmethod
    def make(cls, splits: Path, visual: Features, audio: Features, recipe: str, tokens: str) -> ImportPlan:
        """Read the split files in `splits` and the shapes of the features.

        `recipe` is one of `RECIPES`, or `auto`: the features of the larger data sets, whose frames are 8 per
        second, are published as HDF5. `tokens` is the number type of the visual tokens.

        Raises:
            ManifestError: the split files are damaged or list no clips.
            ConfigError: an unknown recipe.
            CacheError: features of other clips, damaged, or of odd shapes; an unknown number type.
        """
        from avcil.extract.recipe import RECIPES  # it loads torch, which the import itself does not need

        if recipe == "auto":
            recipe = "released" if isinstance(visual, Hdf5Features) else "released-ave"
        if recipe not in RECIPES:
            raise ConfigError(f"recipe is {recipe!r}; it must be auto or one of {', '.join(RECIPES)}")
        clips = listed_clips(splits)
        visual_shape, audio_shape = released_shapes(clips, visual, audio)
        info = CacheInfo(
            visual=TokenSpec(visual_shape, tokens),
            audio=TokenSpec(audio_shape, "float32"),
            recipe=RECIPES[recipe].to_dict(),
            visual_encoder=released_encoder("visual", "videomae"),
            audio_encoder=released_encoder("audio", "audiomae"),
        )
        return cls(clips, info, recipe)

    @property
    def classes(self) -> int:
        """Number of labels."""
        return len({clip.label for clip in self.clips})

    @property
    def size_bytes(self) -> int:
        """Bytes of all tokens."""
        return len(self.clips) * (self.info.visual.row_bytes + self.info.audio.row_bytes)


@dataclass(frozen=True)
class ImportProgress:
    """Where an import stands: of `total` clips, those done or failed; bytes of features read."""

    done: int
    total: int
    read_bytes: int


@dataclass(frozen=True)
class ImportSummary:
    """What an import did: clips stored now and there before, and why the others have no tokens.

    `unlisted`: features of clips that are in no split, which are left out.
    """

    done: int
    already: int
    failures: dict[str, Failure] = field(repr=False)
    unlisted: int
    read_bytes: int
    elapsed_s: float

    @property
    def gb_per_s(self) -> float:
        """10^9 bytes of features read a second, with the writing of the tokens."""
        return self.read_bytes / 1e9 / self.elapsed_s if self.elapsed_s else 0.0


def import_features(
    path: Path,
    info: CacheInfo,
    clips: Sequence[CacheClip],
    visual: Features,
    audio: Features,
    on_progress: Callable[[ImportProgress], None] | None = None,
) -> ImportSummary:
    """Fill the cache at `path`, or go on with it: tokens of `clips` from visual [T*S, D] and audio [D].

    A clip whose features are missing, damaged, of another shape or not finite is noted as a failure, and is
    tried again by the next call. Raises `CacheError` as `CacheWriter`, and where no clip at all has tokens; a
    cache begun here without a token is then removed.
    """
    began_s, done, tried, read_bytes = time.monotonic(), 0, 0, 0
    with CacheWriter.open(path, info, clips) as writer:
        try:
            todo = writer.missing
            already = len(clips) - len(todo)
            with closing(_read_ahead(todo, info, visual, audio)) as batches:
                for batch in batches:
                    for clip_id, why in batch.failures.items():
                        writer.record_failure(clip_id, *why)
                    if batch.ids:
                        writer.write(batch.ids, batch.visual, batch.audio)
                    done, read_bytes = done + len(batch.ids), read_bytes + batch.read_bytes
                    tried += len(batch.ids) + len(batch.failures)
                    if on_progress is not None:
                        on_progress(ImportProgress(already + tried, len(clips), read_bytes))
            missing = set(writer.missing)
            failures = {key: why for key, why in writer.failures.items() if key in missing}
            if failures and not (done or already):
                first, (kind, detail) = next(iter(failures.items()))
                raise CacheError(f"none of the {len(clips)} clips can be used; {first!r}: {kind}: {detail}")
        except BaseException:
            writer.discard()
            raise
    listed = {clip.id for clip in clips}
    unlisted = len({*visual.ids, *audio.ids} - listed)
    return ImportSummary(done, already, failures, unlisted, read_bytes, time.monotonic() - began_s)


@dataclass(frozen=True)
class _Batch:
    """Usable clips, their visual [n, T, S, D] and audio [n, D], float32, and why the others are not."""

    ids: list[str]
    visual: np.ndarray
    audio: np.ndarray
    failures: dict[str, Failure]
    read_bytes: int


def _read_ahead(ids: Sequence[str], info: CacheInfo, visual: Features, audio: Features) -> Generator[_Batch]:
    """Read one batch in a thread while the one before it is written."""
    clip_bytes = 4 * (math.prod(info.visual.shape) + math.prod(info.audio.shape))
    n = min(max(1, BATCH_BYTES // clip_bytes), MAX_BATCH)
    with ThreadPoolExecutor(1) as reader:
        coming: deque[Future[_Batch]] = deque()
        for start in range(0, len(ids), n):
            coming.append(reader.submit(_read_batch, ids[start : start + n], info, visual, audio))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _read_batch(ids: Sequence[str], info: CacheInfo, visual: Features, audio: Features) -> _Batch:
    batch_visual = np.empty((len(ids), *info.visual.shape), np.float32)
    batch_audio = np.empty((len(ids), *info.audio.shape), np.float32)
    usable: list[str] = []
    failures: dict[str, Failure] = {}
    read_bytes = 0
    for clip_id in ids:
        try:
            frames, sound = _read(clip_id, info, visual, audio)
        except _Unusable as error:
            failures[clip_id] = error.failure
        else:
            batch_visual[len(usable)], batch_audio[len(usable)] = frames, sound
            usable.append(clip_id)
            read_bytes += frames.nbytes + sound.nbytes
    n = len(usable)
    return _Batch(usable, batch_visual[:n], batch_audio[:n], failures, read_bytes)


class _Unusable(Exception):
    """Why a clip's features are no tokens."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.failure: Failure = kind, detail


def _read(clip_id: str, info: CacheInfo, visual: Features, audio: Features) -> tuple[np.ndarray, np.ndarray]:
    """Visual [T, S, D] and audio [D] of a clip, fit to be written; raises `_Unusable`."""
    if absent := [str(part.path.name) for part in (visual, audio) if clip_id not in part.ids]:
        raise _Unusable("missing", f"not in {' and '.join(absent)}")
    t, s, d = info.visual.shape
    parts = (
        ("visual", visual, (t * s, d), info.visual.dtype),
        ("audio", audio, info.audio.shape, info.audio.dtype),
    )
    arrays = []
    for kind, features, shape, dtype in parts:
        try:
            if features.shape(clip_id) != shape:
                found = list(features.shape(clip_id))
                raise _Unusable("wrong-shape", f"{kind} features {found}, expected {list(shape)}")
            array = features.read(clip_id)
        except CacheError as error:
            raise _Unusable("damaged", str(error)) from error
        if not np.issubdtype(array.dtype, np.floating):
            raise _Unusable("wrong-type", f"{kind} features {array.dtype}, expected floating-point numbers")
        largest = max(-float(array.min()), float(array.max()))  # NaN if there is one: min and max pass it on
        if not largest <= _LARGEST.get(dtype, float(np.finfo(np.float32).max)):
            raise _Unusable("not-finite", f"{kind} features up to {largest:g} do not fit {dtype}")
        arrays.append(array)
    return arrays[0].reshape(info.visual.shape), arrays[1]
