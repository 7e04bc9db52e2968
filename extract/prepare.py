"""Owns the work on one clip before the encoders: decode, resize, log-mel; knows no processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from avcil.errors import DecodeError
from avcil.extract.media.contract import Backend, DecodedClip, Track, failure
from avcil.extract.media.decode import decode
from avcil.extract.recipe import Recipe, audio_input, resize_crop
from avcil.extract.sources.manifest import Clip


@dataclass(frozen=True)
class PreparedClip:
    """What the encoders take: frames uint8 [N, size, size, 3] and mel float32 [mel_frames, mel_bins].

    For an encoder that hears waveforms, `mel` is one, float32 [samples]. `missing_audio`: the clip has no
    sound, and `mel` is that of digital silence.
    """

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]
    missing_audio: bool = False


@dataclass(frozen=True)
class Preparation:
    """How clips are prepared; called with a clip, it gives the clip prepared or the error as a value.

    `allow_missing`: see `DecodeRequest`.
    """

    recipe: Recipe
    backend: Backend = "auto"
    allow_missing: frozenset[Track] = frozenset()

    def __call__(self, clip: Clip) -> PreparedClip | DecodeError:
        """Prepare one clip on this thread; nothing that a file can cause is raised."""
        try:
            with _one_thread():
                request = self.recipe.request(clip.start_s, clip.end_s)
                decoded = decode(clip.path, replace(request, allow_missing=self.allow_missing), self.backend)
                frames = resize_crop(decoded.frames, self.recipe.image_size)
                return PreparedClip(frames, *self._hear(decoded))
        except DecodeError as error:
            return error
        except MemoryError:
            return failure("out-of-memory", "the resized frames or the sound do not fit into memory")
        except Exception as error:  # a clip that breaks the preprocessing must not stop the others
            return failure("internal", f"{type(error).__name__}: {error}")

    def _hear(self, decoded: DecodedClip) -> tuple[NDArray[np.float32], bool]:
        """Give the sound as the encoder takes it, and whether it stands for missing sound."""
        audio, rate_hz = decoded.audio, decoded.sample_rate_hz
        try:
            return audio_input(audio, rate_hz, self.recipe), decoded.missing_audio
        except DecodeError as error:  # there is some sound, but less than one analysis window
            if error.kind != "no-audio" or "audio" not in self.allow_missing:
                raise
        return audio_input(np.zeros((1, rate_hz), np.float32), rate_hz, self.recipe), True


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch on one thread, as in a worker: with more, the spectrogram is rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
