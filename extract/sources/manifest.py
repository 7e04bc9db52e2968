"""The clips that a source holds, whatever its format, and which of their videos are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from avcil.errors import ManifestError
from avcil.extract.sources.annotations import (
    AVE_ALL,
    AVE_HEADER,
    AVE_SETS,
    kinetics_likeness,
    read_ave,
    read_kinetics,
    read_vggsound,
    vggsound_likeness,
)
from avcil.extract.sources.authors import CLIPS_NAME, read_authors
from avcil.extract.sources.clip import Clip, ListedClip, split_of
from avcil.extract.sources.csv_table import REQUIRED_COLUMNS, csv_likeness, read_csv
from avcil.extract.sources.file_names import FileNames
from avcil.extract.sources.find_videos import VideoIndex
from avcil.extract.sources.folder import read_folder
from avcil.extract.sources.listing import decoded, first_line, taken_apart
from avcil.extract.sources.resolve import choose, resolve
from avcil.extract.sources.splits import SplitRule
from avcil.labels import look_alike

__all__ = ["Clip", "Format", "Manifest", "SourceOptions", "read_manifest", "read_source"]

Format = Literal["auto", "folder", "csv", "ave", "vggsound", "kinetics", "authors"]
FIRST_BYTES = 65_536  # of a file, to tell its format
LISTS: dict[Format, Callable[[Path], list[ListedClip]]] = {
    "ave": read_ave,
    "vggsound": read_vggsound,
    "kinetics": read_kinetics,
    "authors": read_authors,
}


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    `videos`: the folder that the videos of a list, or the paths of a CSV, are in; by default the source's.
    `only`: a file of ids, one a line, to take from a list. `split`: for sources that do not say.
    """

    format: Format = "auto"
    videos: Path | None = None
    only: Path | None = None
    split: SplitRule = field(default_factory=SplitRule)

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise ManifestError(f"format is {self.format!r}; it must be one of {', '.join(get_args(Format))}")


@dataclass(frozen=True)
class ClassCoverage:
    """How many clips of a class are listed, and of how many the video is there."""

    label: str
    listed: int
    present: int


@dataclass(frozen=True)
class Manifest:
    """The clips of a source, in its order. Those in `missing` have no file: each fails alone, later.

    `unresolved`: ids that are listed and cannot become clips: no file says their class, or the source does
    not hold them. `notes`: what else of the source is left out or taken in a way that may surprise, in lines
    for people.
    """

    format: Format
    clips: tuple[Clip, ...]
    missing: tuple[Clip, ...] = ()
    unresolved: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def coverage(self) -> list[ClassCoverage]:
        """Listed and present clips by class, the smallest share present first."""
        listed = Counter(clip.label for clip in self.clips)
        missing = Counter(clip.label for clip in self.missing)
        classes = [ClassCoverage(label, n, n - missing[label]) for label, n in listed.items()]
        return sorted(classes, key=lambda one: one.present / one.listed)


def read_source(source: Path, *, split: SplitRule) -> list[Clip]:
    """List the clips of a source whose videos lie with it, its format detected; see `read_manifest`."""
    return list(read_manifest(source, SourceOptions(split=split)).clips)


def read_manifest(source: Path, options: SourceOptions) -> Manifest:
    """List the clips of a folder of class folders, a CSV, or a published list; `docs/sources.md` shows each.

    Raises `ManifestError`, one line: what is wrong, where, what to do.
    """
    source = FileNames().meant(source)
    if not source.exists():
        raise ManifestError(
            f"{source}: no such file or folder; give a CSV, a list or a folder of class folders"
        )
    format = detect(source) if options.format == "auto" else options.format
    if format in LISTS:
        manifest = _read_list(source, format, options)
    else:
        manifest = _read_direct(source, format, options)
    if len(manifest.missing) == len(manifest.clips):
        remedy = "; name the folder of the videos by --videos" if format != "folder" else ""
        first = f", the first would be {manifest.clips[0].path}" if manifest.clips else ""
        n = len(manifest.clips) + len(manifest.unresolved)
        raise ManifestError(f"{source}: none of its {n} clips exists{first}{remedy}")
    if pair := look_alike(clip.label for clip in manifest.clips):
        raise ManifestError(f"{source}: labels {pair} look the same; write them alike, or differently")
    return manifest


def detect(source: Path) -> Format:
    """The format of a source, by the names of its files or the first row of the file; `csv` if unknown."""
    if source.is_dir():
        names = {path.name.lower() for path in source.iterdir()}
        if CLIPS_NAME.lower() in names:
            return "authors"
        if names & {*AVE_SETS, AVE_ALL}:
            return "ave"
        lists = (path for path in source.glob("*.csv") if split_of(path.stem) and path.is_file())
        return "kinetics" if any(_format_of_file(path) == "kinetics" for path in lists) else "folder"
    return "authors" if source.name == CLIPS_NAME else _format_of_file(source)


def _format_of_file(path: Path) -> Format:
    try:
        with path.open("rb") as file:
            text = decoded(file.read(FIRST_BYTES), "replace")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from error
    line = first_line(text)
    if line.startswith(AVE_HEADER) or (line.count("&") >= 4 and line.rsplit("&", 1)[1].strip().isdecimal()):
        return "ave"
    rows = taken_apart(line).values()
    if any(csv_likeness(row) == len(REQUIRED_COLUMNS) for row in rows):
        return "csv"
    if any(vggsound_likeness(row) for row in rows):
        return "vggsound"
    return "kinetics" if any(kinetics_likeness(row) for row in rows) else "csv"


def _read_direct(source: Path, format: Format, options: SourceOptions) -> Manifest:
    """A folder or a CSV: it says itself where the files are."""
    if source.is_dir() != (format == "folder"):
        wanted = "a folder of class folders" if format == "folder" else "a CSV file"
        raise ManifestError(f"{source}: --format {format} expects {wanted}")
    if options.only is not None:
        raise ManifestError(
            f"{source}: --list goes with {', '.join(LISTS)}; leave the others out of the {format}"
        )
    notes: list[str] = []
    if format == "folder":
        if options.videos is not None:
            raise ManifestError(f"{source}: --videos goes with a list or a CSV; a folder holds its videos")
        found = read_folder(source, options.split)
        clips, notes = found.clips, found.notes
    else:
        clips = read_csv(source, options.videos or source.parent)
    missing = tuple(clip for clip in clips if not _is_there(clip.path))
    return Manifest(format, tuple(clips), missing, notes=tuple(notes))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _read_list(source: Path, format: Format, options: SourceOptions) -> Manifest:
    if format == "authors" and source.is_file():
        source = source.parent
    if format in ("vggsound", "authors") and source.is_dir() != (format == "authors"):
        wanted = "the folder of the split files" if format == "authors" else "the CSV file"
        raise ManifestError(f"{source}: --format {format} expects {wanted}")
    clips = LISTS[format](source)
    unresolved: list[str] = []
    videos = None if options.videos is None else FileNames().meant(options.videos)
    if not clips:
        raise ManifestError(f"{source}: no clips in it; read as {format}, another format needs --format")
    if options.only is not None:
        clips, unresolved = choose(clips, options.only)
    index = VideoIndex(videos or (source if source.is_dir() else source.parent))
    resolved = resolve(clips, index, options.split)
    unresolved = list(dict.fromkeys(unresolved + resolved.unresolved))
    beyond = f"{source}: clips left out beyond the counts of the split: {resolved.beyond}"
    return Manifest(
        format,
        tuple(resolved.clips),
        tuple(resolved.missing),
        tuple(unresolved),
        (beyond,) if resolved.beyond else (),
    )
