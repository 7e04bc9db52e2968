"""Small real media files for tests, written with PyAV; every frame carries its own number."""

from pathlib import Path

import av
import numpy as np

BITS = 8
CELL = 32  # pixels; large enough to survive any codec


def write_clip(
    path: Path,
    n_frames: int = 24,
    fps: int = 12,
    codec: str = "mpeg4",
    audio: tuple[str, int, str] | None = ("aac", 44_100, "stereo"),
    seconds: float = 2.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write numbered frames, 256 x 64, and a tone of 440 Hz left at 0.5 and 880 Hz right at 0.25."""
    with av.open(str(path), "w") as file:
        if n_frames:
            video = file.add_stream(codec, rate=fps, options=options or {})
            video.width, video.height, video.pix_fmt = BITS * CELL, 2 * CELL, "yuv420p"
        if audio:
            name, rate_hz, layout = audio
            sound = file.add_stream(name, rate=rate_hz, layout=layout)
        for i in range(n_frames):
            file.mux(video.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        if n_frames:
            file.mux(video.encode(None))
        if audio:
            samples = tones(rate_hz, seconds)[: sound.layout.nb_channels]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.rate, frame.pts = rate_hz, 0
            resampler = av.AudioResampler(sound.format, layout, rate_hz, frame_size=sound.frame_size or 0)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(sound.encode(part))
            file.mux(sound.encode(None))
    return path


def numbered(i: int) -> np.ndarray:
    """uint8 [64, 256, 3]: the bits of `i` as white and black squares, highest first, above a grey strip."""
    frame = np.full((2 * CELL, BITS * CELL, 3), 128, np.uint8)
    for bit in range(BITS):
        frame[:CELL, bit * CELL : (bit + 1) * CELL] = 255 * (i >> (BITS - 1 - bit) & 1)
    return frame


def number_of(frame: np.ndarray) -> int:
    """Read the number of an upright frame back."""
    middle = frame[CELL // 2, CELL // 2 :: CELL].mean(axis=1)
    return int("".join("1" if value > 128 else "0" for value in middle), 2)


def tones(rate_hz: int, seconds: float) -> np.ndarray:
    """float32 [2, samples]."""
    t_s = np.arange(round(rate_hz * seconds)) / rate_hz
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * t_s), 0.25 * np.sin(2 * np.pi * 880 * t_s)]).astype(
        np.float32
    )


def rotate_clockwise(path: Path) -> None:
    """Set the display matrix of the first track of an `.mp4` to a quarter turn clockwise."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: the matrix of a version 0 track header
    one = 0x10000
    matrix = [0, one, 0, -one, 0, 0, 0, 0, 0x40000000]
    content[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(content)
