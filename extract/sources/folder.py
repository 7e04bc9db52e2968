"""Folders of class folders, with or without folders for the splits."""

from __future__ import annotations

from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import MEDIA_SUFFIXES, Clip, name_text, unique_ids
from avcil.extract.sources.splits import SPLITS, SplitRule

# Sound without picture is listed too, so that it ends in the list of failures and not in silence.
KNOWN_SUFFIXES = MEDIA_SUFFIXES | {
    f".{suffix}" for suffix in ("aif", "aiff", "ape", "dsf", "flac", "m4a", "m4b", "mp3", "wav")
}


def read_folder(source: Path, rule: SplitRule) -> list[Clip]:
    """List `<class>/<clip>`, divided by `rule`, or `train|val|test/<class>/<clip>`; ids are `<class>/<stem>`.

    A folder with clips and no class folders is one class, called like the folder.

    Raises `ManifestError` where there are none.
    """
    folders = _subfolders(source)
    if folders and {folder.name for folder in folders} <= set(SPLITS):
        found = [
            (path, name_text(label.name), split.name)
            for split in sorted(folders, key=lambda folder: SPLITS.index(folder.name))
            for label in _subfolders(split)
            for path in _media_files(label)
        ]
    else:
        found = [
            (path, name_text(folder.name), part)
            for folder in folders or [source.absolute()]
            for path, part in rule.assign(name_text(folder.name), _media_files(folder))
        ]
    if not found:
        raise ManifestError(
            f"{source}: no clips in it; expected <class>/<clip>.mp4, train|val|test/<class>/<clip>.mp4 or, "
            f"for one class, <clip>.mp4 (known endings: {' '.join(sorted(MEDIA_SUFFIXES))})"
        )
    paths, labels, parts = zip(*found, strict=True)
    ids = unique_ids(
        len(found),
        (
            lambda i: f"{labels[i]}/{name_text(paths[i].stem)}",
            lambda i: f"{labels[i]}/{name_text(paths[i].name)}",
            lambda i: f"{parts[i]}/{labels[i]}/{name_text(paths[i].name)}",
        ),
    )
    return [Clip(id, path, label, part) for id, (path, label, part) in zip(ids, found, strict=True)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _media_files(folder: Path) -> list[Path]:
    files = (
        entry for entry in folder.iterdir() if entry.suffix.lower() in KNOWN_SUFFIXES and not entry.is_dir()
    )
    return sorted(entry for entry in files if not entry.name.startswith("."))
