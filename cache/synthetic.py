"""A small cache of made-up tokens from which classes can be learnt, for tests and benchmarks."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from avcil.cache.schema import SPLITS, CacheClip, CacheInfo, EncoderInfo, WeightsOrigin
from avcil.cache.token_spec import TokenSpec
from avcil.cache.writer import CacheWriter
from avcil.errors import CacheError

_BATCH = 32


@dataclass(frozen=True)
class SyntheticSpec:
    """What to make up: `train`, `val` and `test` are clips per class.

    A class has one direction in the space of audio tokens and one in that of visual tokens, of length
    `separation`. An audio token is its direction plus `noise` times a standard normal. Of the visual tokens
    of a clip, one place in four shows the direction, the same places in every frame; every token carries
    noise, and all tokens of a clip share a quarter as much again. With the defaults, sound alone and picture
    alone each beat chance clearly and the two together beat both.

    Raises:
        CacheError: a size below 1 (`val` and `test` may be 0), or negative noise or separation.
    """

    classes: int = 6
    train: int = 12
    val: int = 4
    test: int = 4
    time: int = 4
    space: int = 9
    width: int = 16
    seed: int = 0
    separation: float = 3.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 1 if name in ("classes", "train", "time", "space", "width") else 0
            if value < least:
                raise CacheError(f"synthetic cache: {name} is {value}, must be at least {least}")


def write_synthetic_cache(path: Path, spec: SyntheticSpec) -> None:
    """Fill a cache at `path` with tokens [n, time, space, width] and [n, width].

    The same spec makes the same bytes; a cache that was begun is completed. Labels are `class-000`,
    `class-001`, ...; ids are `<split>-<class>-<number>`.

    Raises:
        CacheError: `path` is something else already, or the disk is full.
    """
    clips = [clip for clip, _ in _clips(spec)]
    with CacheWriter.open(path, _info(spec), clips) as writer:
        missing = set(writer.missing)
        todo = [(clip.id, key) for clip, key in _clips(spec) if clip.id in missing]
        for start in range(0, len(todo), _BATCH):
            batch = todo[start : start + _BATCH]
            visual, audio = zip(*(_tokens(spec, key) for _, key in batch), strict=True)
            writer.write([clip_id for clip_id, _ in batch], np.stack(visual), np.stack(audio))


def _clips(spec: SyntheticSpec) -> Iterator[tuple[CacheClip, tuple[int, int, int]]]:
    """Every clip with its key (split, class, number), from which its tokens are drawn."""
    for split, count in enumerate((spec.train, spec.val, spec.test)):
        for label in range(spec.classes):
            for number in range(count):
                name = f"{SPLITS[split]}-{label:03d}-{number:04d}"
                yield CacheClip(name, f"class-{label:03d}", SPLITS[split]), (split, label, number)


def _tokens(spec: SyntheticSpec, key: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One clip: visual [T, S, D] and audio [D], float32."""
    of_class = np.random.default_rng([spec.seed, 0, key[1]])
    directions = of_class.standard_normal((2, spec.width))
    directions *= spec.separation / np.linalg.norm(directions, axis=1, keepdims=True)
    of_clip = np.random.default_rng([spec.seed, 1, *key])
    shared = of_clip.standard_normal(spec.width) / 4
    visual = spec.noise * (shared + of_clip.standard_normal((spec.time, spec.space, spec.width)))
    visual[:, of_clip.permutation(spec.space)[: max(1, spec.space // 4)]] += directions[0]
    audio = directions[1] + spec.noise * of_clip.standard_normal(spec.width)
    return visual.astype(np.float32), audio.astype(np.float32)


def _info(spec: SyntheticSpec) -> CacheInfo:
    fingerprint = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode("ascii")).hexdigest()
    encoder = EncoderInfo("synthetic", fingerprint, WeightsOrigin("own", f"made up, seed {spec.seed}"))
    return CacheInfo(
        visual=TokenSpec((spec.time, spec.space, spec.width), "float16"),
        audio=TokenSpec((spec.width,), "float32"),
        recipe={"name": "synthetic", **asdict(spec)},
        visual_encoder=encoder,
        audio_encoder=encoder,
    )
