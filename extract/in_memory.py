"""Owns clips that become tokens without becoming a cache: the same road, handed over instead of stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from avcil.cache import CacheInfo, Tokens, as_stored
from avcil.errors import CacheError, DecodeError, EncoderError
from avcil.extract.engine import ExtractOptions, plan_on
from avcil.extract.pipeline import Counts, run_pipeline
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.sources.clip import Clip
from avcil.extract.tokens import TokenEncoder

OnClip = Callable[[Clip, "Tokens | DecodeError"], None]


@dataclass(frozen=True)
class EncodedClip:
    """What the encoders were given of a clip, and its tokens as a cache would give them back (n = 1)."""

    prepared: PreparedClip
    tokens: Tokens


def encode_clip(clip: Clip, encoder: TokenEncoder, options: ExtractOptions) -> EncodedClip:
    """Encode one clip in this process.

    Raises:
        DecodeError: the clip cannot be decoded.
        EncoderError: its tokens are not finite or too large for the number type.
    """
    prepared = Preparation(encoder.recipe, options.decoder, options.allow_missing)(clip)
    if isinstance(prepared, DecodeError):
        raise prepared
    tokens = encoder.encode([prepared])
    try:
        stored = as_stored(clip.id, tokens.visual[0], tokens.audio[0], encoder.info)
    except CacheError as error:
        raise EncoderError(str(error)) from error
    return EncodedClip(prepared, stored)


def encode_clips(
    clips: Sequence[Clip],
    encoder: TokenEncoder,
    options: ExtractOptions,
    on_clip: OnClip,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Encode clips (ids unique) as `extract` does, in workers and batches, and hand over each one's tokens.

    Args:
        clips: what to encode; the order in which they are handed over is that of decoding.
        encoder: from `build_recorded_encoder`.
        options: decoder, workers, batch, deadline, allow_missing; the rest is the encoder's.
        on_clip: called with a clip and its tokens as a cache would give them back (n = 1), or the error.
        on_progress: called with the number of clips handed over.
    """
    by_id = {clip.id: clip for clip in clips}
    sink, handed_over = _HandOver(encoder.info), 0

    def hand_over() -> None:
        nonlocal handed_over
        while sink.waiting:
            clip_id, value = sink.waiting.popleft()
            on_clip(by_id[clip_id], value)
            handed_over += 1
        on_progress(handed_over)

    plan = plan_on(str(encoder.device), options, len(clips))
    run_pipeline(plan, clips, encoder, sink, Counts(), hand_over)


@dataclass(frozen=True)
class _HandOver:
    """A sink that another thread fills and this one empties."""

    info: CacheInfo
    waiting: deque[tuple[str, Tokens | DecodeError]] = field(default_factory=deque)

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        for clip_id, seen, heard in zip(ids, visual, audio, strict=True):
            self.waiting.append((clip_id, as_stored(clip_id, seen, heard, self.info)))

    def record_failure(self, id: str, kind: str, detail: str) -> None:
        self.waiting.append((id, DecodeError(kind, detail)))

    def record_flags(self, flags: Mapping[str, str]) -> None:
        """A missing sound that was allowed needs no note here."""
