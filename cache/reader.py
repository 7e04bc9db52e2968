"""Owns how tokens are read: one index over all shards, by clip id. Knows no training and no torch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from avcil.cache import metadata
from avcil.cache.quantise import SCALE_DTYPE, widen
from avcil.cache.schema import SPLITS, CacheClip, CacheInfo
from avcil.cache.shard import Shard, open_shard, row_crc
from avcil.errors import CacheError


@dataclass(frozen=True)
class Tokens:
    """The tokens of n clips: `visual` [n, T, S, D] and `audio` [n, D], in the cache's number types.

    Where `visual` is int8, `visual_scale` [n, T, S] float16 goes with it: value = visual * visual_scale.
    """

    visual: np.ndarray
    audio: np.ndarray
    visual_scale: np.ndarray | None = None

    def widened(self) -> np.ndarray:
        """The visual tokens in float32, [n, T, S, D], whatever they are stored in."""
        if self.visual_scale is None:
            return self.visual.astype(np.float32)
        return widen(self.visual, self.visual_scale)


@dataclass(frozen=True)
class _Mapped:
    """A shard as arrays over the file: `parts` as in `Tokens`, by name, and `crcs` [n]."""

    shard: Shard
    parts: dict[str, np.ndarray]
    crcs: np.ndarray


class TokenCache:
    """A cache opened for reading, as it was at that moment: rows written later need a new `TokenCache`.

    Sizes are checked before files are mapped into memory. A copy in a forked process or a thread shares the
    maps; pickling sends the path and opens the cache anew.
    """

    path: Path
    info: CacheInfo
    clips: list[CacheClip]
    failures: dict[str, tuple[str, str]]
    flags: dict[str, str]

    def __init__(self, path: Path) -> None:
        """Open the cache at `path`.

        Raises:
            CacheError: it is missing, not a cache, of a newer version, damaged, or a shard is cut short.
        """
        self.path = Path(path)
        self.info = metadata.read_info(self.path)
        manifest = metadata.read_manifest(self.path)
        self.clips = list(manifest.values())  # whether they have tokens or not
        self.failures = metadata.read_failures(self.path)  # id -> (kind, detail)
        self.flags = metadata.read_flags(self.path)  # id -> flag, like missing-audio
        self._shards: list[_Mapped] = []
        self._row: dict[str, tuple[int, int]] = {}  # id -> shard, row; of rows that are written
        seen: set[str] = set()
        for shard_path in sorted(self.path.glob("shard-*.h5")):
            mapped = self._map(open_shard(shard_path, self.info))
            for row, clip_id in enumerate(mapped.shard.ids):
                if clip_id not in manifest or clip_id in seen:
                    raise CacheError(
                        f"{shard_path}, row {row}: id {clip_id!r} is not in the manifest or stands twice"
                    )
                seen.add(clip_id)
                if mapped.crcs[row]:
                    self._row[clip_id] = len(self._shards), row
            self._shards.append(mapped)

    def __reduce__(self) -> tuple[type["TokenCache"], tuple[Path]]:
        return TokenCache, (self.path,)

    def has(self, id: str) -> bool:
        """Whether the clip has tokens."""
        return id in self._row

    def present(self, split: str | None = None) -> list[CacheClip]:
        """The clips that have tokens, of one split or of all, in the manifest's order.

        Raises:
            CacheError: there is no such split.
        """
        if split is not None and split not in SPLITS:
            raise CacheError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        return [clip for clip in self.clips if clip.id in self._row and split in (None, clip.split)]

    def read(self, ids: Sequence[str], *, verify: bool = True) -> Tokens:
        """Copy the tokens of `ids` out of the cache: `visual` [n, T, S, D], `audio` [n, D].

        With `verify`, the checksum is taken of the copy that is returned.

        Raises:
            CacheError: a clip is unknown or has no tokens; a checksum does not match (names id, shard, row).
        """
        copies = {name: np.empty((len(ids), *shape), dtype) for name, (shape, dtype) in self._parts.items()}
        for i, clip_id in enumerate(ids):
            mapped, row = self._find(clip_id)
            for name, copy in copies.items():
                copy[i] = mapped.parts[name][row]
            if verify and row_crc(clip_id, *(copy[i] for copy in copies.values())) != mapped.crcs[row]:
                raise CacheError(
                    f"{mapped.shard.path}, row {row}: the tokens of clip {clip_id!r} do not match their "
                    "checksum: the file is damaged"
                )
        return Tokens(**copies)

    def read_audio(self, ids: Sequence[str], *, verify: bool = False) -> np.ndarray:
        """Copy the audio tokens of `ids` out of the cache, [n, D], without touching the visual ones.

        A checksum covers its whole row, so nothing but the presence of the row is checked unless `verify`
        is asked for: then every visual token is read as well, one clip at a time.

        Raises:
            CacheError: as in `read`.
        """
        audio = np.empty((len(ids), *self.info.audio.shape), self.info.audio.numpy_dtype)
        for i, clip_id in enumerate(ids):
            mapped, row = self._find(clip_id)
            audio[i] = self.read([clip_id]).audio[0] if verify else mapped.parts["audio"][row]
        return audio

    @cached_property
    def fingerprint(self) -> str:
        """The hexadecimal sha256 of what the cache holds: info, ids, labels, splits, checksums.

        Another token, label, split or order of clips gives another fingerprint; another place of the
        videos (`source`) or another distribution over shards does not.
        """
        digest = hashlib.sha256(self.info.to_json().encode("utf-8"))
        for clip in self.clips:
            number, row = self._row.get(clip.id, (0, -1))
            crc = int(self._shards[number].crcs[row]) if row >= 0 else 0
            digest.update(json.dumps([clip.id, clip.label, clip.split, crc]).encode("ascii") + b"\n")
        return digest.hexdigest()

    def _find(self, clip_id: str) -> tuple[_Mapped, int]:
        if clip_id not in self._row:
            known = any(clip.id == clip_id for clip in self.clips)
            why = "has no tokens yet" if known else "is not in the manifest"
            raise CacheError(f"{self.path}: clip {clip_id!r} {why}")
        number, row = self._row[clip_id]
        return self._shards[number], row

    @property
    def _parts(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and number type of one row's parts, in the order of `PARTS`."""
        visual, audio = self.info.visual, self.info.audio
        scale = {} if visual.scale_shape is None else {"visual_scale": (visual.scale_shape, SCALE_DTYPE)}
        return {
            "visual": (visual.shape, visual.numpy_dtype),
            **scale,
            "audio": (audio.shape, audio.numpy_dtype),
        }

    def _map(self, shard: Shard) -> _Mapped:
        n = len(shard.ids)
        try:
            parts: dict[str, np.ndarray] = {
                name: np.memmap(shard.path, dtype, "r", shard.offsets[name], (n, *shape))
                for name, (shape, dtype) in self._parts.items()
            }
            return _Mapped(shard, parts, shard.read_crcs())
        except (OSError, ValueError) as error:
            raise CacheError(f"{shard.path} cannot be mapped: {error}") from error
