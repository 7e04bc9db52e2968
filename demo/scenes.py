"""Pictures and sounds of the demo data, as arrays.

A picture knows nothing of the sound beside it, and the other way round. Whatever is not the thing itself is
drawn in the same way for all things: colours, light, grain, size, speed, place, direction; pitch, level,
rhythm, background noise. Things to see differ in their texture, so that patches of a picture tell them apart.
Letters: n frames or samples, H, W.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Rng = np.random.Generator
TURN = 2 * np.pi


@dataclass(frozen=True)
class _Scene:
    """The chance in a picture: lengths in units of its height, times in seconds, rates in 1/s."""

    colours: np.ndarray  # [2, 3], background and foreground, 0 to 1
    slope: np.ndarray  # [2], how the light falls off across the picture
    centre: np.ndarray  # [2]
    places: np.ndarray  # [8, 2], more places
    headings: np.ndarray  # [8], directions of movement, radians
    size: float
    speed: float
    grain: float


@dataclass(frozen=True)
class _Grid:
    """The picture's points, `x` and `y` [H, W], in units of its height."""

    x: np.ndarray
    y: np.ndarray


def _stripes(grid: _Grid, scene: _Scene, time_s: float) -> np.ndarray:
    """Soft stripes that drift across their direction."""
    along = grid.x * np.cos(scene.headings[0]) + grid.y * np.sin(scene.headings[0])
    return 0.5 + 0.5 * np.sin(TURN * (along / (0.16 * scene.size) - 1.5 * scene.speed * time_s))


def _rings(grid: _Grid, scene: _Scene, time_s: float) -> np.ndarray:
    """Thin bright rings that grow out of one point."""
    radius = np.hypot(grid.x - scene.centre[0], grid.y - scene.centre[1])
    wave = np.cos(TURN * (radius / (0.26 * scene.size) - 1.2 * scene.speed * time_s))
    return np.clip(4 * wave - 2.4, 0, 1)


def _disks(grid: _Grid, scene: _Scene, time_s: float) -> np.ndarray:
    """A few filled disks that bounce off the picture's edges."""
    shown = np.zeros_like(grid.x)
    heading = np.stack([np.cos(scene.headings), np.sin(scene.headings)], 1)
    for x, y in _bounce(scene.places + 0.5 * scene.speed * time_s * heading)[:4]:
        distance = np.hypot(grid.x - x, grid.y - y)
        shown = np.maximum(shown, np.clip((0.14 * scene.size - distance) * 40 + 0.5, 0, 1))
    return shown


def _checks(grid: _Grid, scene: _Scene, time_s: float) -> np.ndarray:
    """A fine hard chequerboard whose two colours change places again and again."""
    cell = 0.07 * scene.size
    odd = (np.floor((grid.x + scene.centre[0]) / cell) + np.floor((grid.y + scene.centre[1]) / cell)) % 2
    return np.abs(odd - (0.5 + 0.5 * np.sin(TURN * 1.5 * scene.speed * time_s)))


def _bounce(place: np.ndarray) -> np.ndarray:
    """Reflect straight paths into the unit square."""
    return 1 - np.abs(1 - place % 2)


def _chirp(t_s: np.ndarray, pitch_hz: float, length_s: float, rng: Rng) -> np.ndarray:
    """A tone that glides up two octaves."""
    octaves = 2.0
    glide = length_s / (octaves * np.log(2)) * (2 ** (octaves * t_s / length_s) - 1)
    return np.sin(TURN * 3 * pitch_hz * glide) * np.sin(np.pi * t_s / length_s) ** 0.5


def _pluck(t_s: np.ndarray, pitch_hz: float, length_s: float, rng: Rng) -> np.ndarray:
    """A plucked chord: three strings, whose higher harmonics fade sooner."""
    strings = 0.5 * pitch_hz * np.array([1.0, 1.25, 1.5])[:, None, None]
    harmonic = np.arange(1, 17)[None, :, None]
    phase = rng.uniform(0, TURN, (3, 16, 1))
    turns = (TURN * strings * harmonic).astype(np.float32) * t_s.astype(np.float32)
    fade = np.exp(-t_s * (2 + harmonic[0] / 2) / length_s) / harmonic[0]
    return np.asarray((fade * np.sin(turns + phase.astype(np.float32)).sum(0)).sum(0))


def _burst(t_s: np.ndarray, pitch_hz: float, length_s: float, rng: Rng) -> np.ndarray:
    """A burst of noise, some three octaves wide."""
    step_hz = 1 / (len(t_s) * (t_s[1] - t_s[0]))
    spectrum = np.fft.rfft(rng.standard_normal(len(t_s)))
    octaves = np.log2(np.maximum(np.arange(len(spectrum)) * step_hz, 1.0) / (8 * pitch_hz))
    return np.fft.irfft(spectrum * np.exp(-0.5 * (octaves / 1.2) ** 2), len(t_s))


SIGHTS: dict[str, Callable[[_Grid, _Scene, float], np.ndarray]] = {
    "stripes": _stripes,
    "rings": _rings,
    "disks": _disks,
    "checks": _checks,
}
SOUNDS: dict[str, Callable[[np.ndarray, float, float, Rng], np.ndarray]] = {
    "chirp": _chirp,
    "pluck": _pluck,
    "burst": _burst,
}


def draw_frames(sight: str, rng: Rng, n: int, width: int, height: int, fps: float) -> np.ndarray:
    """Frames [n, H, W, 3] uint8 RGB of one of `SIGHTS`; everything else about them is drawn from `rng`."""
    scene = _draw_scene(rng)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    light = scene.slope[0] * (x - 0.5) + scene.slope[1] * (y - 0.5)
    back, fore = scene.colours
    frames = np.empty((n, height, width, 3), np.uint8)
    for i in range(n):
        shown = SIGHTS[sight](_Grid(x, y), scene, i / fps)[..., None]
        frame = back + (fore - back) * shown + light[..., None]
        frame += scene.grain * rng.standard_normal((height, width, 1), np.float32)
        frames[i] = np.clip(255 * frame, 0, 255)
    return frames


def draw_sound(sound: str, rng: Rng, n: int, rate_hz: int) -> np.ndarray:
    """Samples [n] float32 within -1 to 1 of one of `SOUNDS`; everything else is drawn from `rng`."""
    pitch_hz = 220 * 2 ** rng.uniform(0, 1.2)
    level, noise = 10 ** (rng.uniform(-12, -4) / 20), 10 ** (rng.uniform(-46, -36) / 20)
    length_s, pause_s = rng.uniform(0.25, 0.5), rng.uniform(0.03, 0.15)
    t_s = np.arange(int(length_s * rate_hz)) / rate_hz
    edge = np.minimum(1, np.minimum(t_s, t_s[::-1]) / 0.005)  # no clicks
    wave = noise * rng.standard_normal(n)
    start = int(rng.uniform(0, pause_s) * rate_hz)
    while start < n:
        event = edge * SOUNDS[sound](t_s, pitch_hz * 2 ** rng.uniform(-0.2, 0.2), length_s, rng)
        event *= 0.2 / np.sqrt(np.mean(event**2))
        wave[start : start + len(event)] += event[: n - start]
        start += len(event) + int(pause_s * rate_hz)
    return np.clip(level * wave, -1, 1).astype(np.float32)


def _draw_scene(rng: Rng) -> _Scene:
    background, foreground = rng.uniform(0.05, 0.35, 3), rng.uniform(0.55, 0.95, 3)
    return _Scene(
        colours=np.stack([background, foreground]).astype(np.float32),
        slope=rng.uniform(-0.1, 0.1, 2).astype(np.float32),
        centre=rng.uniform(0.25, 0.75, 2).astype(np.float32),
        places=rng.uniform(0, 1, (8, 2)).astype(np.float32),
        headings=rng.uniform(0, TURN, 8).astype(np.float32),
        size=rng.uniform(0.8, 1.25),
        speed=rng.uniform(0.6, 1.4) * rng.choice([-1, 1]),
        grain=rng.uniform(0.01, 0.05),
    )
