"""The decode contract: what is asked of a file, what comes back, and the kinds of failure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from avcil.errors import DecodeError

if TYPE_CHECKING:  # the command line takes its choices from here, without loading numpy
    import numpy as np
    from numpy.typing import NDArray

Backend = Literal["auto", "pyav", "decord"]
Track = Literal["audio"]
FailureKind = Literal[
    "missing",  # no such file
    "unreadable",  # not a media file, empty, or not to be opened
    "unsupported",  # a track whose codec no decoder here knows
    "no-video",  # no moving picture: no picture track, or only a cover image
    "no-audio",  # no sound track, or less sound than one analysis window
    "no-frames",  # a picture track that holds no frame
    "corrupt",  # too much of a track is damaged or cut off, see `opening`
    "empty-window",  # start_s, end_s hold no frame or no sound
    "timeout",  # not done within the deadline (workers)
    "crashed",  # the decoding process died (workers)
    "out-of-memory",  # one clip does not fit into memory
    "not-finite",  # an encoder overflows on this clip (engine)
    "internal",  # an exception nobody foresaw: worth a report
]
FAILURE_KINDS: tuple[str, ...] = get_args(FailureKind)


@dataclass(frozen=True)
class DecodeRequest:
    """What is wanted of a file: `n_frames`, within start_s <= time < end_s where given, and the sound.

    `frame_fps`: how the frames are chosen, see `frame_rules.frame_indices`. `allow_missing`: {"audio"}
    decodes a clip without sound as one with digital silence. `sound_s`: how much of the sound is wanted, from
    the window's start on; None: all.
    """

    n_frames: int = 16
    frame_fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None
    allow_missing: frozenset[Track] = frozenset()
    sound_s: float | None = None

    def __post_init__(self) -> None:
        if self.n_frames < 2:
            raise ValueError(f"DecodeRequest: n_frames is {self.n_frames}; it must be at least 2")
        if self.frame_fps is not None and not (math.isfinite(self.frame_fps) and self.frame_fps > 0):
            raise ValueError(f"DecodeRequest: frame_fps is {self.frame_fps}; it must be above 0, or None")
        for name in self.allow_missing - set(get_args(Track)):
            raise ValueError(f"DecodeRequest: allow_missing has {name!r}; only 'audio' may be missing")

    @property
    def may_lack_audio(self) -> bool:
        """Whether a clip without sound is to be decoded nevertheless."""
        return "audio" in self.allow_missing

    @property
    def is_window(self) -> bool:
        """Whether only a part of the file is wanted."""
        return self.start_s is not None or self.end_s is not None

    @property
    def begin_s(self) -> float:
        """Where the wanted part begins."""
        return max(0.0, self.start_s or 0.0)

    @property
    def sound_end_s(self) -> float:
        """Where the wanted sound ends, infinity for the file's end."""
        end_s = math.inf if self.end_s is None else self.end_s
        return end_s if self.sound_s is None else min(end_s, self.begin_s + self.sound_s)

    def covers(self, time_s: float) -> bool:
        """Say whether a moment lies within the window."""
        after_start = self.start_s is None or time_s >= self.start_s
        return after_start and (self.end_s is None or time_s < self.end_s)


@dataclass(frozen=True)
class DecodedClip:
    """One clip's picture and sound, as recorded.

    frames: uint8 [N, H, W, 3] RGB, turned as the display matrix says, with square pixels; frame_times_s:
    float64 [N], counted from the file's start; audio: float32 [channels, samples], native channels and rate,
    full scale 1, from the window's start on: where the file has no sound then, but has later, it is silent.
    `missing_audio`: the file has none, and `audio` is silence as long as the picture.
    """

    frames: NDArray[np.uint8]
    frame_times_s: NDArray[np.float64]
    audio: NDArray[np.float32]
    sample_rate_hz: int
    missing_audio: bool = False


def failure(kind: FailureKind, detail: str) -> DecodeError:
    """Make the error value of one of the known kinds."""
    return DecodeError(kind, detail)
