"""A cache in numbers: size, coverage, failures."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avcil.cache.reader import TokenCache
from avcil.cache.schema import SPLITS


@dataclass(frozen=True)
class Coverage:
    """How many clips are listed, and how many of them have tokens."""

    written: int
    listed: int


@dataclass(frozen=True)
class CacheSummary:
    """One or several caches in numbers.

    Attributes:
        content: recipe, encoders, shapes and number types, as `cache.json` has them.
        clip_bytes: bytes of one clip's tokens.
        disk_bytes: bytes of all shards, with the rows that are not written yet.
        splits: split -> coverage.
        classes: label -> split -> coverage, in the manifest's order of labels.
        failures: kind -> number of clips that could not be encoded.
        flags: flag -> number of clips.
    """

    paths: tuple[Path, ...]
    fingerprint: str
    content: Mapping[str, Any]
    total: Coverage
    clip_bytes: int
    disk_bytes: int
    shards: int
    splits: Mapping[str, Coverage]
    classes: Mapping[str, Mapping[str, Coverage]]
    failures: Mapping[str, int]
    flags: Mapping[str, int]


def summarise(cache: TokenCache) -> CacheSummary:
    """Count what a cache holds."""
    listed = Counter((clip.label, clip.split) for clip in cache.clips)
    written = Counter((clip.label, clip.split) for clip in cache.present())
    labels = list(dict.fromkeys(clip.label for clip in cache.clips))

    def coverage(*keys: tuple[str, str]) -> Coverage:
        return Coverage(sum(written[key] for key in keys), sum(listed[key] for key in keys))

    return CacheSummary(
        paths=cache.paths,
        fingerprint=cache.fingerprint,
        content=cache.info.content(),
        total=coverage(*listed),
        clip_bytes=cache.info.visual.row_bytes + cache.info.audio.row_bytes,
        disk_bytes=sum(mapped.shard.size_bytes for mapped in cache.shards),
        shards=len(cache.shards),
        splits={split: coverage(*((label, split) for label in labels)) for split in SPLITS},
        classes={label: {split: coverage((label, split)) for split in SPLITS} for label in labels},
        failures=_commonest(kind for kind, _ in cache.failures.values()),
        flags=_commonest(flag for flags in cache.flags.values() for flag in flags.split()),
    )


def _commonest(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())
