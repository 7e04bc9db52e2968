"""Listed clips become clips: chosen, their files found, given class, split and id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import Clip, ListedClip, bare_name, checked_label, timed_name, unique_ids
from avcil.extract.sources.find_videos import VideoIndex
from avcil.extract.sources.listing import lines
from avcil.extract.sources.splits import SplitRule


@dataclass(frozen=True)
class ResolvedClips:
    """Clips in the order of their list, and the ids that cannot be clips: nothing says their class or split.

    A clip in `missing` has no file; its path is where the file would be. `beyond`: how many are left out
    because the split has a number of clips for their class.
    """

    clips: list[Clip]
    missing: list[Clip]
    unresolved: list[str]
    beyond: int = 0


def choose(clips: Sequence[ListedClip], path: Path) -> tuple[list[ListedClip], list[str]]:
    """Keep the clips that a file names, one id a line, and give the ids that name none.

    An id with times also names a clip without them, and one without times all clips of its video.
    """
    wanted: dict[str | tuple[str, int | None], list[str]] = defaultdict(list)
    for _, line in lines(path):
        name = bare_name(line.split(",")[0].split("\t")[0].strip(' "'))
        wanted[name].append(name)
        if timed := timed_name(name):
            wanted[timed[:2]].append(name)
            wanted[timed[0], None].append(name)
    kept, used = [], set()
    for clip in clips:
        keys = (clip.id, clip.video, (clip.video, clip.start))
        if names := [name for key in keys for name in wanted.get(key, ())]:
            kept.append(clip)
            used.update(names)
    if not kept:
        raise ManifestError(f"{path}: it names none of the clips; expected one id a line")
    asked = dict.fromkeys(name for names in wanted.values() for name in names)
    return kept, [name for name in asked if name not in used]


def resolve(clips: Sequence[ListedClip], index: VideoIndex, rule: SplitRule) -> ResolvedClips:
    """Find the file of every listed clip and complete what its list does not say.

    The class is then that of the file's folder, and the split that of its split folder or, where there are
    none, what `rule` draws from all clips of the class. Clips that stand twice count once. Ids become
    `<class>/<id>`, then `<split>/<class>/<id>`, where several clips share one.

    Raises `ManifestError` for a file that says no class, or several files for one clip.
    """
    clips = list(dict.fromkeys(clips))
    starts = defaultdict(set)
    for clip in clips:
        starts[clip.video].add(clip.start)
    found: list[tuple[ListedClip, Path | None]] = []
    for clip in clips:
        path = index.find(clip, alone=len(starts[clip.video]) == 1)
        found.append((_completed(clip, path, index), path))
    has_split_folders = any(path and index.folder_split(path) for _, path in found)
    known: list[tuple[ListedClip, Path | None]] = []
    unresolved: list[str] = []
    for clip, path in found:
        if clip.label is None or (clip.split is None and path is None and has_split_folders):
            unresolved.append(clip.id)
        else:
            known.append((clip, path))
    complete = _with_splits(known, rule)
    paths = [path or index.expected(clip) for clip, path in complete]
    resolved = _named([clip for clip, _ in complete], paths)
    missing = [clip for clip, (_, path) in zip(resolved, complete, strict=True) if path is None]
    return ResolvedClips(resolved, missing, unresolved, len(known) - len(complete))


def _completed(clip: ListedClip, path: Path | None, index: VideoIndex) -> ListedClip:
    if path is None:
        return clip
    label = clip.label if clip.label is not None else index.folder_label(path)
    if label is None:
        raise ManifestError(
            f"{path}: the list names no class for it and it lies in no class folder; "
            "use class folders, lines id,label or the Kinetics CSV"
        )
    return replace(
        clip, label=checked_label(label, str(path.parent)), split=clip.split or index.folder_split(path)
    )


def _with_splits(
    known: Sequence[tuple[ListedClip, Path | None]], rule: SplitRule
) -> list[tuple[ListedClip, Path | None]]:
    by_label: dict[str, list[int]] = defaultdict(list)
    for i, (clip, _) in enumerate(known):
        if clip.split is None:
            by_label[str(clip.label)].append(i)
    drawn = {i: split for label, items in by_label.items() for i, split in rule.assign(label, items)}
    return [
        (replace(clip, split=clip.split or drawn[i]), path)
        for i, (clip, path) in enumerate(known)
        if clip.split is not None or i in drawn
    ]


def _named(clips: Sequence[ListedClip], paths: Sequence[Path]) -> list[Clip]:
    ids = unique_ids(
        len(clips),
        (
            lambda i: clips[i].id,
            lambda i: f"{clips[i].label}/{clips[i].id}",
            lambda i: f"{clips[i].split}/{clips[i].label}/{clips[i].id}",
        ),
    )
    return [
        Clip(id, path, str(clip.label), str(clip.split))
        for id, clip, path in zip(ids, clips, paths, strict=True)
    ]
