"""Caches opened for reading: one index by clip id over the shards of one or several folders."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from avcil.cache import folder
from avcil.cache.mapped import MappedShard
from avcil.cache.row import Tokens, parts
from avcil.cache.schema import SPLITS, CacheClip, CacheInfo, differences
from avcil.cache.shard import shard_paths
from avcil.errors import CacheError

FINGERPRINT_VERSION = 1  # of the fingerprint's own text: it outlives versions of the files


class TokenCache:
    """One or several caches opened for reading, as they were at that moment.

    Rows written later need a new `TokenCache`. Several caches are one list of clips, in their order; they
    must hold tokens of one kind (recipe, encoders, shapes, number types) and no clip twice.

    Sizes are checked before files are mapped into memory. Reading is safe from several threads; a forked
    process shares the maps; pickling, as for a spawned process, sends the paths and opens the caches anew.

    Attributes:
        paths: the caches' folders; `path` is the first.
        info: what their tokens are.
        clips: all clips of the manifests, whether they have tokens or not.
        failures: id -> (kind, detail) of clips that could not be encoded.
        flags: id -> flag, like `missing-audio`, of clips that have tokens.
    """

    paths: tuple[Path, ...]
    info: CacheInfo
    clips: list[CacheClip]
    failures: dict[str, tuple[str, str]]
    flags: dict[str, str]

    def __init__(self, path: Path, *others: Path) -> None:
        """Open the caches.

        Raises:
            CacheError: one is missing, not a cache, of another version, changed or damaged, a shard is cut
                short; two hold different tokens (names the fields) or the same clip (names it).
        """
        self.paths = tuple(Path(one) for one in (path, *others))
        self.info = folder.read_info(self.path)
        self.failures = {}
        self.flags = {}
        self._row: dict[str, tuple[MappedShard, int]] = {}  # of rows that are written
        self._shards: list[MappedShard] = []
        cache_of: dict[str, Path] = {}
        known: dict[str, CacheClip] = {}
        for one in self.paths:
            self._check_kind(one)
            shards = shard_paths(one).values()  # first: a writer adds clips to the manifest, then their shard
            manifest = folder.read_manifest(one)
            if (clip_id := next(filter(cache_of.__contains__, manifest), None)) is not None:
                raise CacheError(
                    f"clip {clip_id!r} is in {cache_of[clip_id]} and in {one}: "
                    "caches that are used together may not share a clip"
                )
            cache_of.update(dict.fromkeys(manifest, one))
            known |= manifest
            self.failures |= folder.read_failures(one)
            self.flags |= folder.read_flags(one)
            self._open_shards(shards, manifest)
        self._known = known
        self.clips = list(known.values())

    @property
    def path(self) -> Path:
        """The folder of the first cache."""
        return self.paths[0]

    @property
    def shards(self) -> Sequence[MappedShard]:
        """The shards of all caches, in order."""
        return self._shards

    def __repr__(self) -> str:
        shape, where = self.info.visual.shape, " ".join(map(str, self.paths))
        return f"<TokenCache {where}: {len(self.present())} of {len(self.clips)} clips, visual {list(shape)}>"

    def __reduce__(self) -> tuple[type["TokenCache"], tuple[Path, ...]]:
        return TokenCache, self.paths

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

    def empty(self, n: int) -> Tokens:
        """Arrays that the tokens of `n` clips fit into, not initialised."""
        return Tokens(**{name: np.empty((n, *shape), dtype) for name, (shape, dtype) in self._parts.items()})

    def read(self, ids: Sequence[str], *, out: Tokens | None = None, verify: bool = True) -> Tokens:
        """Copy the tokens of `ids` out of the cache: `visual` [n, T, S, D], `audio` [n, D].

        With `out`, into its arrays, like those of `empty`, which are returned: one copy, from the file's
        pages to there. With `verify`, every checksum is checked.

        Raises:
            CacheError: a clip is unknown or has no tokens; a checksum does not match (names id, shard, row);
                `out` has other shapes or number types than the cache's, or is not contiguous.
        """
        tokens = self.empty(len(ids)) if out is None else out
        targets = {name: getattr(tokens, name) for name in self._parts}
        for name, (shape, dtype) in self._parts.items():
            _check_target(name, targets[name], (len(ids), *shape), dtype)
        self._copy(ids, targets, verify)
        return tokens

    def read_audio(
        self, ids: Sequence[str], *, out: np.ndarray | None = None, verify: bool = True
    ) -> np.ndarray:
        """Copy the audio tokens of `ids` out of the cache, [n, D], without touching the visual ones.

        They have a checksum of their own; `out` and `verify` are as in `read`.

        Raises:
            CacheError: as in `read`.
        """
        shape, dtype = self._parts["audio"]
        audio = np.empty((len(ids), *shape), dtype) if out is None else out
        _check_target("audio", audio, (len(ids), *shape), dtype)
        self._copy(ids, {"audio": audio}, verify)
        return audio

    @cached_property
    def fingerprint(self) -> str:
        """The hexadecimal sha256 of what the caches hold: info, ids, labels, splits, checksums.

        Another token, label, split or order of clips gives another fingerprint; another place of the
        videos (`source`) or another distribution over shards and caches does not.
        """
        content = {
            "format": folder.INFO_FORMAT,
            "schema_version": FINGERPRINT_VERSION,
            **self.info.content_in_words(),
        }
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        digest = hashlib.sha256(text.encode("utf-8"))
        for clip in self.clips:
            shard, row = self._row.get(clip.id, (None, -1))
            crc = int(shard.crcs[row]) if shard else 0
            digest.update(json.dumps([clip.id, clip.label, clip.split, crc]).encode("ascii") + b"\n")
        return digest.hexdigest()

    @cached_property
    def _parts(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype]]:
        return parts(self.info)

    def _check_kind(self, path: Path) -> None:
        names = f"{self.path} has", f"{path} has"
        lines = differences(self.info, folder.read_info(path), introduced=names)
        if lines:
            raise CacheError(f"caches of different tokens cannot be used together; {'; '.join(lines)}")

    def _open_shards(self, paths: Iterable[Path], manifest: Mapping[str, CacheClip]) -> None:
        seen: set[str] = set()
        for path in paths:
            mapped = MappedShard.open(path, self.info)
            self._shards.append(mapped)
            for row, clip_id in enumerate(mapped.shard.ids):
                if clip_id not in manifest or clip_id in seen:
                    raise CacheError(
                        f"{path}, row {row}: id {clip_id!r} is not in the manifest or stands twice"
                    )
                seen.add(clip_id)
                if mapped.crcs[row]:
                    self._row[clip_id] = mapped, row

    def _copy(self, ids: Sequence[str], targets: Mapping[str, np.ndarray], verify: bool) -> None:
        for i, clip_id in enumerate(ids):
            if clip_id not in self._row:
                why = "has no tokens yet" if clip_id in self._known else "is not in the manifest"
                raise CacheError(f"{', '.join(map(str, self.paths))}: clip {clip_id!r} {why}")
            shard, row = self._row[clip_id]
            shard.copy_row(row, {name: target[i] for name, target in targets.items()}, verify=verify)


def _check_target(name: str, target: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if target is None or target.shape != shape or target.dtype != dtype:
        found = "nothing" if target is None else f"{target.dtype} {list(target.shape)}"
        raise CacheError(f"{name} tokens cannot be read into {found}: expected {dtype} {list(shape)}")
    if not (target.flags.c_contiguous and target.flags.writeable):
        raise CacheError(f"{name} tokens cannot be read into an array that is not contiguous and writeable")
