"""What lies below a folder: media files, other files, and folders without media."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import name_text

# What systems and servers put beside people's files; names that begin with a dot are left out, too.
OF_SYSTEMS = frozenset(
    {
        *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"),
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "icon\r", "ehthumbs.db"),
    }
)
MOST_NAMED = 5


@dataclass(frozen=True)
class FolderTree:
    """All that lies below `root`, in a stable order: a folder's files, then its folders.

    `media`: files with one of the endings asked for. `others`: number of other files by ending.
    `empty_folders`: those that no media file lies in or below, the outermost of each. Hidden names and those
    of `OF_SYSTEMS` are left out.
    """

    root: Path
    media: list[Path]
    others: Counter[str]
    empty_folders: list[Path]

    def notes(self) -> list[str]:
        """What is left out, in lines for people."""
        notes = []
        if self.others:
            kinds = [f"{n} {ending or 'without one'}" for ending, n in self.others.most_common()]
            notes.append(
                f"{self.root}: files left out by their endings: {self.others.total()} ({named(kinds)})"
            )
        if self.empty_folders:
            names = [name_text(str(folder.relative_to(self.root))) for folder in self.empty_folders]
            notes.append(f"{self.root}: folders without clips: {len(names)} ({named(names)})")
        return notes


def read_tree(root: Path, endings: Collection[str], *, repeats: bool = False) -> FolderTree:
    """Walk a folder for files with these endings, in lower case with their dot.

    Links to folders are followed, but in no circle; a folder that is reached on several ways counts once, or,
    with `repeats`, on each of them. Raises `ManifestError` for a folder that cannot be read.
    """
    media: list[Path] = []
    others: Counter[str] = Counter()
    walked: dict[Path, set[tuple[int, int]]] = {}  # folders, and what those on the way to them are
    seen: set[tuple[int, int]] = set()
    for name, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        folder = Path(name)
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        above = walked.get(folder.parent, set()) if folder != root else set()
        if identity in (above if repeats else seen):
            folders.clear()
            continue
        seen.add(identity)
        walked[folder] = above | {identity}
        folders[:] = sorted(filter(_is_of_people, folders))
        for file in sorted(filter(_is_of_people, names)):
            ending = os.path.splitext(file)[1].lower()  # noqa: PTH122
            if ending in endings:
                media.append(folder / file)
            else:
                others[name_text(ending)] += 1
    filled = {parent for folder in {path.parent for path in media} for parent in (folder, *folder.parents)}
    empty = [folder for folder in walked if folder not in filled and folder.parent in filled]
    return FolderTree(root, media, others, empty)


def named(names: Collection[str]) -> str:
    """The first few of several names."""
    more = len(names) - MOST_NAMED
    return ", ".join(list(names)[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_of_people(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in OF_SYSTEMS


def _refuse(error: OSError) -> None:
    raise ManifestError(f"{error.filename}: cannot be read ({error.strerror})") from error
