"""Preparation: the work on one clip before the encoders, which is decode, resize, log-mel."""

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
from avcil.extract.sources.clip import Clip

MISSING_AUDIO = "missing-audio"  # there is no sound
SILENT_AUDIO = "silent-audio"  # it stays within `SILENT_PEAK` of full scale
OPPOSITE_PHASE = "opposite-phase"  # the channels cancel out in their mean, which the recipe takes
STILL_PICTURE = "still-picture"  # every wanted frame is like the first

SILENT_PEAK = 1e-3  # -60 dB of full scale
CANCELLED_POWER = 1e-2  # of the channels', -20 dB; channels that have nothing in common keep half
MOVED_LEVELS, MOVED_SHARE = 8, 1e-3  # grey levels by which a pixel, and pixels by which a frame, has changed


@dataclass(frozen=True)
class PreparedClip:
    """What the encoders take: frames uint8 [N, size, size, 3] and mel float32 [mel_frames, mel_bins].

    For an encoder that takes waveforms, `mel` is one, float32 [samples]. `flags`: what is remarkable about
    the clip, of those below; where it has no sound, `mel` is that of digital silence.
    """

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]
    flags: tuple[str, ...] = ()

    @property
    def missing_audio(self) -> bool:
        """Whether the clip has no sound."""
        return MISSING_AUDIO in self.flags


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
                sound, flags = self._sound(decoded)
                return PreparedClip(frames, sound, (*flags, STILL_PICTURE) if is_still(frames) else flags)
        except DecodeError as error:
            return error
        except MemoryError:
            return failure("out-of-memory", "the resized frames or the sound do not fit into memory")
        except Exception as error:  # a clip that breaks the preprocessing must not stop the others
            if "allocate memory" in str(error):  # torch has no error of its own for it
                return failure("out-of-memory", "the resized frames or the sound do not fit into memory")
            return failure("internal", f"{type(error).__name__}: {error}")

    def _sound(self, decoded: DecodedClip) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Give the sound as the encoder takes it, and its flags."""
        audio, rate_hz = decoded.audio, decoded.sample_rate_hz
        try:
            sound = audio_input(audio, rate_hz, self.recipe)
        except DecodeError as error:  # there is some sound, but less than one analysis window
            if error.kind != "no-audio" or "audio" not in self.allow_missing:
                raise
            return audio_input(np.zeros((1, rate_hz), np.float32), rate_hz, self.recipe), (MISSING_AUDIO,)
        if decoded.missing_audio:
            return sound, (MISSING_AUDIO,)
        if is_silent(audio):
            return sound, (SILENT_AUDIO,)
        if self.recipe.channel_rule == "mean" and cancels_out(audio):
            return sound, (OPPOSITE_PHASE,)
        return sound, ()


def is_silent(audio: NDArray[np.float32]) -> bool:
    """Say whether float32 [channels, samples] is all but silent, whatever its constant part."""
    return bool((np.ptp(audio, axis=1) < 2 * SILENT_PEAK).all())


def cancels_out(audio: NDArray[np.float32]) -> bool:
    """Say whether the channels of float32 [channels, samples] cancel out in their mean."""
    if len(audio) < 2:
        return False
    mean = audio.mean(0)
    return bool(np.vdot(mean, mean) < CANCELLED_POWER * np.vdot(audio, audio) / len(audio))


def is_still(frames: NDArray[np.uint8]) -> bool:
    """Say whether frames uint8 [N, H, W, 3] all but repeat the first; every second row and column counts."""
    first = frames[0, ::2, ::2].astype(np.int16)
    return all(
        (np.abs(frame[::2, ::2] - first).max(-1) > MOVED_LEVELS).mean() < MOVED_SHARE
        for frame in frames[:0:-1]  # the last ones have moved furthest
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch on one thread, as in a worker: with more, the spectrogram is rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
