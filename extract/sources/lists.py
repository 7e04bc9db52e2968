"""Owns how the entries of a list become clips: chosen, found, given class, split and id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import Clip, Entry, bare_name, timed_name, unique_ids
from avcil.extract.sources.find_videos import VideoIndex
from avcil.extract.sources.list_files import lines
from avcil.extract.sources.splits import SplitRule


@dataclass(frozen=True)
class PlacedClips:
    """Clips in the order of their list, and the ids that cannot be clips: nothing says their class or split.

    A clip in `missing` has no file; its path is where the file would be.
    """

    clips: list[Clip]
    missing: list[Clip]
    unplaced: list[str]


def choose(entries: Sequence[Entry], path: Path) -> tuple[list[Entry], list[str]]:
    """Keep the entries that a file names, one id a line, and give the ids that name none.

    An id with times also names an entry without them, and one without times all clips of its video.
    """
    wanted: dict[str | tuple[str, int | None], list[str]] = defaultdict(list)
    for _, line in lines(path):
        name = bare_name(line.split(",")[0].strip(' "'))
        wanted[name].append(name)
        if timed := timed_name(name):
            wanted[timed[:2]].append(name)
            wanted[timed[0], None].append(name)
    kept, used = [], set()
    for entry in entries:
        keys = (entry.id, entry.video, (entry.video, entry.start))
        if names := [name for key in keys for name in wanted.get(key, ())]:
            kept.append(entry)
            used.update(names)
    if not kept:
        raise ManifestError(f"{path}: it names none of the clips; expected one id a line")
    asked = dict.fromkeys(name for names in wanted.values() for name in names)
    return kept, [name for name in asked if name not in used]


def place(entries: Sequence[Entry], index: VideoIndex, rule: SplitRule) -> PlacedClips:
    """Find the file of every entry and complete what its list does not say.

    The class is then that of the file's folder, and the split that of its split folder or, where there are
    none, what `rule` draws from all entries of the class. Entries that stand twice count once. Ids become
    `<class>/<id>`, then `<split>/<class>/<id>`, where several clips share one.

    Raises `ManifestError` for a file that says no class, or several files for one clip.
    """
    entries = list(dict.fromkeys(entries))
    starts = defaultdict(set)
    for entry in entries:
        starts[entry.video].add(entry.start)
    found: list[tuple[Entry, Path | None]] = []
    for entry in entries:
        path = index.find(entry, alone=len(starts[entry.video]) == 1)
        found.append((_completed(entry, path, index), path))
    has_split_folders = any(path and index.folder_split(path) for _, path in found)
    known: list[tuple[Entry, Path | None]] = []
    unplaced: list[str] = []
    for entry, path in found:
        if entry.label is None or (entry.split is None and path is None and has_split_folders):
            unplaced.append(entry.id)
        else:
            known.append((entry, path))
    placed = _clips(_with_splits(known, rule), index)
    missing = [clip for clip, is_there in placed if not is_there]
    return PlacedClips([clip for clip, _ in placed], missing, unplaced)


def _completed(entry: Entry, path: Path | None, index: VideoIndex) -> Entry:
    if path is None:
        return entry
    label = entry.label if entry.label is not None else index.folder_label(path)
    if label is None:
        raise ManifestError(
            f"{path}: the list names no class for it and it lies in no class folder; "
            "use class folders, lines id,label or the Kinetics CSV"
        )
    return replace(entry, label=label, split=entry.split or index.folder_split(path))


def _with_splits(
    known: Sequence[tuple[Entry, Path | None]], rule: SplitRule
) -> list[tuple[Entry, Path | None]]:
    by_label: dict[str, list[int]] = defaultdict(list)
    for i, (entry, _) in enumerate(known):
        if entry.split is None:
            by_label[str(entry.label)].append(i)
    drawn = {i: split for label, items in by_label.items() for i, split in rule.assign(label, items)}
    return [
        (replace(entry, split=entry.split or drawn[i]), path)
        for i, (entry, path) in enumerate(known)
        if entry.split is not None or i in drawn
    ]


def _clips(entries: Sequence[tuple[Entry, Path | None]], index: VideoIndex) -> list[tuple[Clip, bool]]:
    listed = [entry for entry, _ in entries]
    ids = unique_ids(
        len(listed),
        (
            lambda i: listed[i].id,
            lambda i: f"{listed[i].label}/{listed[i].id}",
            lambda i: f"{listed[i].split}/{listed[i].label}/{listed[i].id}",
        ),
    )
    return [
        (Clip(id, path or index.expected(entry), str(entry.label), str(entry.split)), path is not None)
        for id, (entry, path) in zip(ids, entries, strict=True)
    ]
