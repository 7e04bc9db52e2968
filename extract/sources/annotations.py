"""The published lists of AVE, VGGSound and Kinetics, read row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import (
    SPLIT_NAMES,
    ListedClip,
    bare_name,
    checked_id,
    checked_label,
    checked_split,
    named_clip,
    split_of,
    timed_name,
)
from avcil.extract.sources.listing import lines, rows, seconds

AVE_HEADER = "Category&VideoID"
AVE_SETS = {"trainset.txt": "train", "valset.txt": "val", "testset.txt": "test"}
AVE_ALL = "annotations.txt"
KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def read_ave(source: Path) -> list[ListedClip]:
    """AVE: `Category&VideoID&Quality&StartTime&EndTime`, a header or none.

    A folder is read by its trainSet.txt, valSet.txt and testSet.txt, or by its Annotations.txt, which has no
    splits. The times say where in the 10 s the event is; a clip is the whole video. Where an id stands under
    several categories, it is a clip of each.
    """
    if source.is_file():
        return _ave_file(source, AVE_SETS.get(source.name.lower()))
    names = _names(source)
    sets = [name for name in AVE_SETS if name in names]
    if sets and len(sets) < len(AVE_SETS):
        absent = next(name for name in AVE_SETS if name not in sets)
        raise ManifestError(f"{source}: no {absent} beside the other sets; add it or give Annotations.txt")
    if sets:
        return [clip for name, split in AVE_SETS.items() for clip in _ave_file(names[name], split)]
    if AVE_ALL in names:
        return _ave_file(names[AVE_ALL], None)
    raise ManifestError(f"{source}: neither trainSet.txt, valSet.txt, testSet.txt nor Annotations.txt in it")


def _names(folder: Path) -> dict[str, Path]:
    return {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}


def _ave_file(path: Path, split: str | None) -> list[ListedClip]:
    clips = []
    for where, line in lines(path):
        if line.startswith(AVE_HEADER):
            continue
        fields = [field.strip() for field in line.rsplit("&", 4)]
        if len(fields) != 5:
            raise ManifestError(
                f"{where}: {len(fields)} fields; expected Category&VideoID&Quality&StartTime&EndTime"
            )
        label, video, _, start, end = fields
        seconds(start, "StartTime", where)
        seconds(end, "EndTime", where)
        video = checked_id(video, where)
        clips.append(ListedClip(video, video, checked_label(label, where), split))
    return clips


def vggsound_likeness(row: Sequence[str]) -> int:
    """Whether a row is a clip of VGGSound's, or its header."""
    is_clip = len(row) == 4 and row[1].removesuffix(".0").isdecimal() and split_of(row[3]) is not None
    return int(is_clip or (len(row) == 4 and _is_vggsound_header(row) and "time_start" not in row))


def _is_vggsound_header(row: Sequence[str]) -> bool:
    return row[0].lower().replace(" ", "_") in ("youtube_id", "ytid")


def read_vggsound(source: Path) -> list[ListedClip]:
    """VGGSound: `youtube_id,start_seconds,label,split` without header, or with one."""
    clips = []
    for where, row in rows(source, vggsound_likeness):
        if _is_vggsound_header(row):
            continue
        if len(row) != 4:
            raise ManifestError(
                f"{where}: {len(row)} fields; expected youtube_id,start_seconds,label,split, "
                "a label with commas in double quotes"
            )
        video, start, label, split = row
        video = checked_id(video, where)
        start_s = seconds(start, "start_seconds", where)
        label, split = checked_label(label, where), checked_split(split, where)
        clips.append(ListedClip(f"{video}_{start_s:06d}", video, label, split, start_s))
    return clips


def kinetics_likeness(row: Sequence[str]) -> int:
    """Whether a row is the header of Kinetics' CSV, or begins with an id with times."""
    names = {name.lower() for name in row}
    is_listed = bool(row) and timed_name(bare_name(row[0])) is not None
    return int({"youtube_id", "time_start"} <= names or is_listed)


def read_kinetics(source: Path) -> list[ListedClip]:
    """Kinetics: CSV `label,youtube_id,time_start,time_end,split`, or ids, one a line.

    An id is `<youtube id>_<start>_<end>` or `<youtube id>`, as a file name with folders or without, and may
    be followed by `,label` and `,split`. A folder is read by its train, val (validate, validation) and test
    lists, `.csv` or `.txt`; a list of that name is of that split unless it says otherwise.
    """
    if source.is_file():
        return _kinetics_file(source, split_of(source.stem))
    names = _names(source)
    found = [
        (names[name + suffix], split)
        for name, split in SPLIT_NAMES.items()
        for suffix in (".csv", ".txt")
        if name + suffix in names
    ]
    if not found:
        raise ManifestError(f"{source}: no train.csv, val.csv or test.csv in it; give the list itself")
    return [clip for path, split in found for clip in _kinetics_file(path, split)]


def _kinetics_file(path: Path, split: str | None) -> list[ListedClip]:
    clips = []
    columns: dict[str, int] | None = None
    for number, (where, row) in enumerate(rows(path, _kinetics_row_likeness)):
        names = [field.lower() for field in row]
        if number == 0 and "youtube_id" in names:
            if missing := [name for name in KINETICS_COLUMNS if name not in names]:
                raise ManifestError(
                    f"{where}: no column {', '.join(missing)}; Kinetics' own test list has no labels, "
                    "its validation list has"
                )
            if repeated := [name for name in (*KINETICS_COLUMNS, "split") if names.count(name) > 1]:
                raise ManifestError(f"{where}: column {repeated[0]} stands there twice; remove one")
            columns = {name: names.index(name) for name in (*KINETICS_COLUMNS, "split") if name in names}
            n_columns = len(names)
        elif columns is None:
            clips.append(_listed_id(row, split, where))
        elif len(row) != n_columns:
            raise ManifestError(f"{where}: {len(row)} fields; the first line names {n_columns}")
        else:
            clips.append(_kinetics_row({name: row[i] for name, i in columns.items()}, split, where))
    return clips


def _kinetics_row_likeness(row: Sequence[str]) -> int:
    return kinetics_likeness(row) or int(len(row) == 3 and split_of(row[2]) is not None)


def _kinetics_row(row: dict[str, str], split: str | None, where: str) -> ListedClip:
    video = checked_id(row["youtube_id"], where)
    start = seconds(row["time_start"], "time_start", where)
    end = seconds(row["time_end"], "time_end", where)
    part = checked_split(row["split"], where) if row.get("split") else split
    label = checked_label(row["label"], where)
    return ListedClip(f"{video}_{start:06d}_{end:06d}", video, label, part, start, end)


def _listed_id(row: list[str], split: str | None, where: str) -> ListedClip:
    if len(row) > 3:
        raise ManifestError(f"{where}: {len(row)} fields; expected an id, or id,label or id,label,split")
    name, label, part = (*row, "", "")[:3]
    folder = name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    if not label and folder and split_of(folder) is None:
        label = folder
    known_split = checked_split(part, where) if part else split
    known_label = checked_label(label, where) if label else None
    return named_clip(checked_id(bare_name(name), where), known_label, known_split)
