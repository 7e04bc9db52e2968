"""Clips that become tokens without becoming a cache: run as a block, handed over instead of stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from avcil.cache import CacheInfo, Tokens, as_stored
from avcil.errors import CacheError, DecodeError, EncoderError
from avcil.extract.block import Block, BlockReport, BlockRunner
from avcil.extract.options import ExtractOptions
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
        stored = as_stored(clip.id, encoder.kept(tokens.visual)[0], tokens.audio[0], encoder.info)
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
    store = _Kept(encoder.info)
    n_encoded = n_failed = 0

    def hand_over(report: BlockReport) -> None:
        nonlocal n_encoded, n_failed
        if report.error is not None:
            return
        while store.tokens:
            clip_id, tokens = store.tokens.popleft()
            n_encoded += 1
            on_clip(by_id[clip_id], tokens)
        for clip_id, error in list(islice(report.failures.items(), n_failed, None)):
            n_failed += 1
            on_clip(by_id[clip_id], error)
        on_progress(n_encoded + n_failed)

    on_device = options.shared_out(str(encoder.device), len(clips))
    BlockRunner(on_device, encoder, store, hand_over).run_blocks([Block(0, 0, tuple(clips))])


@dataclass(frozen=True)
class _Kept:
    """Tokens in memory: the writer's thread fills it, the caller's empties it."""

    info: CacheInfo
    tokens: deque[tuple[str, Tokens]] = field(default_factory=deque)

    def record_flags(self, flags: Mapping[str, str]) -> None:
        """A missing sound that was allowed needs no note here."""

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        for clip_id, frames, sound in zip(ids, visual, audio, strict=True):
            self.tokens.append((clip_id, as_stored(clip_id, frames, sound, self.info)))
