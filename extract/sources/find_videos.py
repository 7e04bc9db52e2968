"""The files of listed clips, found among many by the names that data sets are downloaded under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import (
    SPLIT_NAMES,
    ListedClip,
    name_text,
    split_of,
    timed_name,
)
from avcil.extract.sources.endings import VIDEO_ENDINGS
from avcil.extract.sources.folder_tree import read_tree
from avcil.labels import same_letters


@dataclass
class VideoIndex:
    """All media files below `root`, by name and by the video and second that the name says."""

    root: Path
    _by_stem: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    _by_start: dict[tuple[str, int], list[Path]] = field(default_factory=lambda: defaultdict(list))
    _by_video: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise ManifestError(f"{self.root}: no such folder of videos; name it with --videos")
        for path in read_tree(self.root, VIDEO_ENDINGS).media:
            stem = same_letters(path.stem)
            self._by_stem[stem].append(path)
            if timed := timed_name(stem):
                self._by_start[timed[:2]].append(path)
                self._by_video[timed[0]].append(path)

    def find(self, clip: ListedClip, *, alone: bool) -> Path | None:
        """The file of a clip, None if there is none.

        `<video>_<start>_<end>` and `<video>_<start>`, in seconds (padded to six digits or not) or in
        milliseconds, and, where the list names no other clip of the video (`alone`), `<video>`. A clip
        without times is `<video>`, or the only file that was cut from it. Of several files the one in a
        folder named like the class, then like the split, is taken.

        Raises `ManifestError` if several remain.
        """
        for candidates in self._candidates(clip, alone):
            if candidates:
                path = self._choose(candidates, clip)
                return path if path.is_file() else None  # a link may lead nowhere
        return None

    def expected(self, clip: ListedClip) -> Path:
        """Where the file of a clip that is not there would be."""
        return self.root / f"{clip.id}.mp4"

    def folder_label(self, path: Path) -> str | None:
        """The class folder that a file lies in, if it does."""
        name = name_text(path.parent.name)
        return None if path.parent == self.root or split_of(name) else name

    def folder_split(self, path: Path) -> str | None:
        """The split folder that a file lies in, if it does."""
        return next(filter(None, map(split_of, path.relative_to(self.root).parts[:-1])), None)

    def _candidates(self, clip: ListedClip, alone: bool) -> Iterator[list[Path]]:
        start, video = clip.start, same_letters(clip.video)
        yield self._by_stem.get(same_letters(clip.id), [])
        if start is None:
            yield self._by_stem.get(video, [])
            yield self._by_video.get(video, [])
            return
        ends = ("",) if clip.end is None else (f"_{clip.end:06d}", f"_{clip.end}", "")
        for end in ends:
            yield self._by_stem.get(f"{video}_{start:06d}{end}", [])
            yield self._by_stem.get(f"{video}_{start}{end}", [])
        for unit in (1, 1000):  # seconds, milliseconds
            if unit == 1 or start:
                yield [
                    path
                    for path in self._by_start.get((video, start * unit), [])
                    if _same_end(path, clip.end, unit)
                ]
        if alone:
            yield self._by_stem.get(video, [])

    def _choose(self, paths: list[Path], clip: ListedClip) -> Path:
        for name in (clip.label, clip.split):
            if name is not None and len(paths) > 1:
                wanted = _folded(name)
                paths = [path for path in paths if wanted in self._folders(path)] or paths
        if len(paths) > 1:
            first, second = sorted(paths)[:2]
            raise ManifestError(
                f"{self.root}: clip {clip.id!r} has {len(paths)} files, {first.relative_to(self.root)} and "
                f"{second.relative_to(self.root)}: move all but one away or name a smaller folder by --videos"
            )
        return paths[0]

    def _folders(self, path: Path) -> set[str]:
        names = {_folded(name_text(part)) for part in path.relative_to(self.root).parts[:-1]}
        return names | {SPLIT_NAMES[name] for name in names & SPLIT_NAMES.keys()}


def _same_end(path: Path, end: int | None, unit: int) -> bool:
    timed = timed_name(path.stem)
    return timed is None or timed[2] is None or end is None or timed[2] == end * unit


def _folded(name: str) -> str:
    """Class folders often have `_` for a blank, other case, or another form of the same letters."""
    return same_letters(name.replace("_", " ")).casefold()
