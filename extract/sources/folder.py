"""Folders of class folders, with or without folders for the splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import Clip, checked_label, name_text, split_of, unique_ids
from avcil.extract.sources.endings import SOUND_ENDINGS, VIDEO_ENDINGS
from avcil.extract.sources.folder_tree import named, read_tree
from avcil.extract.sources.splits import SPLITS, SplitRule

EXPECTED = "expected <class>/<clip>.mp4, train|val|test/<class>/<clip>.mp4 or, for one class, <clip>.mp4"


@dataclass(frozen=True)
class FolderClips:
    """The clips of a folder, and what was left out of it, in lines for people."""

    clips: list[Clip]
    notes: list[str]


@dataclass(frozen=True)
class _File:
    """A file with its class folder, its split if a folder says it, and its name below them without ending."""

    path: Path
    label: str
    split: str | None
    name: str


def read_folder(source: Path, rule: SplitRule) -> FolderClips:
    """List class folders: `<class>/.../<clip>`, with folders for the splits above or right below, or without.

    Ids are `<class>/.../<clip>`, without the ending. Clips without a split are divided by `rule`. A folder
    with clips and no class folders is one class, called like the folder. Files of sound alone are listed, so
    that they end in the list of failures and not in silence.

    Raises `ManifestError` where there are no clips.
    """
    tree = read_tree(source, VIDEO_ENDINGS | SOUND_ENDINGS, repeats=True)
    files, notes = _classified(source, tree.media)
    notes += tree.notes()
    if not files:
        raise ManifestError("; ".join([f"{source}: no clips in it", EXPECTED, *notes]))
    clips = _divided(source, files, rule)
    if len(clips) < len(files):
        notes.append(f"{source}: clips left out beyond the counts of the split: {len(files) - len(clips)}")
    return FolderClips(clips, notes)


def _classified(source: Path, paths: Sequence[Path]) -> tuple[list[_File], list[str]]:
    """Tell the layout by the folders that hold media files, and what does not fit into it."""
    parts = {path: path.relative_to(source).parts for path in paths}
    depth = _depth_of_splits(list(parts.values()))
    inner = {path: names[depth:] for path, names in parts.items()}
    if _has_split_folders(list(inner.values())):
        kept = {path: names for path, names in inner.items() if split_of(names[0]) and len(names) > 2}
        files = [_file(path, names[1], names[0], names[2:]) for path, names in kept.items()]
        files.sort(key=lambda file: SPLITS.index(str(file.split)))
        return files, _left_out(source, paths, kept, "in no class folder of a split")
    if all(len(names) == 1 for names in inner.values()):
        return [_file(path, source.absolute().name, None, names) for path, names in inner.items()], []
    kept = {path: names for path, names in inner.items() if len(names) > 1}
    notes = _left_out(source, paths, kept, "in no class folder")
    if all(len(names) > 2 and split_of(names[1]) for names in kept.values()):
        return [_file(path, names[0], names[1], names[2:]) for path, names in kept.items()], notes
    classes = dict.fromkeys(names[0] for names in kept.values())
    splits = [name for name in classes if split_of(name)]
    if len(splits) == len(classes):
        raise ManifestError(
            f"{source}: no class folders in {named(splits)}; expected <class>/<clip>.mp4 in folders of splits"
        )
    if splits:
        notes.append(f"{source}: {named(splits)} beside other folders is taken for a class, not for a split")
    if len(classes) == 1 and all(len(names) > 2 for names in kept.values()):
        notes.append(
            f"{source}: all clips are one class, {named(list(classes))}; if the folders in it are the "
            "classes, give that folder"
        )
    return [_file(path, names[0], None, names[1:]) for path, names in kept.items()], notes


def _depth_of_splits(names: Sequence[Sequence[str]]) -> int:
    """How many folders lie around those of the splits; 0 if there are none."""
    shared = 0
    while all(len(one) > shared + 1 for one in names) and len({one[shared] for one in names}) == 1:
        shared += 1
    return next((depth for depth in range(shared + 1) if _has_split_folders([n[depth:] for n in names])), 0)


def _has_split_folders(names: Sequence[Sequence[str]]) -> bool:
    """Whether there are class folders in folders of splits: in all folders, or in train and another split."""
    if not all(names):
        return False
    splits = {split_of(one[0]) for one in names if len(one) > 2}
    others = {one[0] for one in names if len(one) > 1 and not split_of(one[0])}
    return bool(splits - {None}) and (not others or (len(splits - {None}) > 1 and "train" in splits))


def _file(path: Path, label: str, split: str | None, below: Sequence[str]) -> _File:
    label = checked_label(name_text(label), str(path.parent))
    name = name_text("/".join([*below[:-1], path.stem]))
    return _File(path, label, split and split_of(split), name)


def _left_out(source: Path, paths: Sequence[Path], kept: Collection[Path], why: str) -> list[str]:
    names = [name_text(str(path.relative_to(source))) for path in paths if path not in kept]
    return (
        [f"{source}: clips left out because they lie {why}: {len(names)} ({named(names)})"] if names else []
    )


def _divided(source: Path, files: Sequence[_File], rule: SplitRule) -> list[Clip]:
    """Give each file its split, and ids that differ; class by class as they come."""
    by_class: dict[tuple[str | None, str], list[_File]] = defaultdict(list)
    for file in files:
        by_class[file.split, file.label].append(file)
    found = [
        (file, part)
        for (split, label), members in by_class.items()
        for file, part in (
            rule.assign(label, members) if split is None else [(file, split) for file in members]
        )
    ]
    names = [f"{file.name}{name_text(file.path.suffix)}" for file, _ in found]
    ids = unique_ids(
        len(found),
        (
            lambda i: f"{found[i][0].label}/{found[i][0].name}",
            lambda i: f"{found[i][0].label}/{names[i]}",
            lambda i: f"{found[i][1]}/{found[i][0].label}/{names[i]}",
            lambda i: name_text(str(found[i][0].path.relative_to(source))),
        ),
    )
    return [Clip(id, file.path, file.label, part) for id, (file, part) in zip(ids, found, strict=True)]
