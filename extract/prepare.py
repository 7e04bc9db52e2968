"""Owns the work on one clip before the encoders: decode, resize, log-mel; knows no processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avcil.errors import DecodeError
from avcil.extract.decode import Backend, decode, failure
from avcil.extract.manifest import Clip
from avcil.extract.preprocess import Recipe, hear, resize_crop


@dataclass(frozen=True)
class PreparedClip:
    """What the encoders take: frames uint8 [N, size, size, 3] and mel float32 [mel_frames, mel_bins].

    For an encoder that hears waveforms, `mel` is one, float32 [samples].
    """

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]


@dataclass(frozen=True)
class Preparation:
    """How clips are prepared; called with a clip, it gives the clip prepared or the error as a value."""

    recipe: Recipe
    backend: Backend = "auto"

    def __call__(self, clip: Clip) -> PreparedClip | DecodeError:
        """Prepare one clip on this thread; nothing that a file can cause is raised."""
        try:
            decoded = decode(clip.path, self.recipe.request(clip.start_s, clip.end_s), self.backend)
            return PreparedClip(
                resize_crop(decoded.frames, self.recipe.image_size),
                hear(decoded.audio, decoded.sample_rate_hz, self.recipe),
            )
        except DecodeError as error:
            return error
        except MemoryError:
            return failure("out-of-memory", "the resized frames or the sound do not fit into memory")
        except Exception as error:  # a clip that breaks the preprocessing must not stop the others
            return failure("internal", f"{type(error).__name__}: {error}")
