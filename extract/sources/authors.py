"""The split files of the AV-CIL authors: pickled dicts in .npy files, read without unpickling them.

`all_classId_vid_dict.npy` {split: {class id: [clip id]}} and `category_encode_dict.npy` {label: class id};
`all_id_category_dict.npy` {split: {clip id: label}} is compared with them where it is there.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from avcil.errors import CacheError, ManifestError
from avcil.extract.sources.clip import ListedClip, checked_id, checked_label, named_clip
from avcil.extract.sources.splits import SPLITS

CLIPS_NAME = "all_classId_vid_dict.npy"
LABELS_NAME = "category_encode_dict.npy"
CHECK_NAME = "all_id_category_dict.npy"


def read_authors(folder: Path) -> list[ListedClip]:
    """The clips of a folder of split files: class ids ascending, in each the splits, in each as stored.

    Raises `ManifestError`: a file is missing, damaged, holds more than plain data or contradicts another.
    """
    labels = _labels(folder / LABELS_NAME)
    splits = _table(_load(folder / CLIPS_NAME), str(folder / CLIPS_NAME))
    clips: dict[str, ListedClip] = {}
    ids = {(name, number): ids for name, classes in splits.items() for number, ids in classes.items()}
    for name, number in sorted(ids, key=lambda key: (key[1], SPLITS.index(key[0]))):
        where = f"{folder / CLIPS_NAME}, {name}, class {number}"
        if number not in labels:
            raise ManifestError(f"{where}: {LABELS_NAME} names no class with this number")
        for id in ids[name, number]:
            if id in clips:
                raise ManifestError(
                    f"{where}: id {id!r} stands already in {clips[id].split}, class {clips[id].label!r}"
                )
            clips[id] = named_clip(checked_id(id, where), labels[number], name)
    if (folder / CHECK_NAME).exists():
        _compare(folder / CHECK_NAME, clips)
    return list(clips.values())


def _load(path: Path) -> object:
    from avcil.pickled import read_npy_object  # it loads numpy: only when needed

    if not path.is_file():
        raise ManifestError(f"{path}: no such file; the split files are {CLIPS_NAME} and {LABELS_NAME}")
    try:
        return read_npy_object(path)
    except CacheError as error:
        raise ManifestError(str(error)) from error


def _labels(path: Path) -> dict[int, str]:
    table = _load(path)
    labels: dict[int, str] = {}
    if not isinstance(table, dict) or not table:
        raise ManifestError(f"{path}: expected {{label: class id}}")
    for label, number in table.items():
        if not isinstance(label, str) or type(number) is not int:
            raise ManifestError(
                f"{path}: {_short(label)}: {_short(number)}: expected a label and a whole number"
            )
        if number in labels:
            raise ManifestError(f"{path}: class {number} has two labels, {labels[number]!r} and {label!r}")
        labels[number] = checked_label(label, str(path))
    if repeated := [label for label, count in Counter(labels.values()).items() if count > 1]:
        raise ManifestError(
            f"{path}: label {repeated[0]!r} has several class ids, apart from blanks around it"
        )
    return labels


def _table(value: object, where: str) -> dict[str, dict[int, list[str]]]:
    splits: dict[str, dict[int, list[str]]] = {}
    if not isinstance(value, dict) or not value:
        raise ManifestError(f"{where}: expected {{split: {{class id: [clip id]}}}}")
    for name, classes in value.items():
        if name not in SPLITS or not isinstance(classes, dict):
            raise ManifestError(f"{where}: {_short(name)}: expected train, val or test and a dict")
        for number, ids in classes.items():
            good = type(number) is int and isinstance(ids, list) and all(isinstance(id, str) for id in ids)
            if not good:
                raise ManifestError(f"{where}, {name}, class {_short(number)}: expected a list of clip ids")
        splits[str(name)] = classes
    return splits


def _compare(path: Path, clips: dict[str, ListedClip]) -> None:
    value = _load(path)
    if not isinstance(value, dict) or not all(isinstance(part, dict) for part in value.values()):
        raise ManifestError(f"{path}: expected {{split: {{clip id: label}}}}")
    checked = {id: (name, label) for name, part in value.items() for id, label in part.items()}
    for id, clip in clips.items():
        if checked.get(id, (clip.split, clip.label)) != (clip.split, clip.label):
            name, label = checked[id]
            raise ManifestError(
                f"{path}: id {id!r} is {_short(label)} in {_short(name)}, but {clip.label!r} in "
                f"{clip.split} in {CLIPS_NAME}"
            )


def _short(value: object) -> str:
    return repr(value)[:60]
