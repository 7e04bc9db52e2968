"""One clip of a source, and how names of files become ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from avcil.errors import ManifestError
from avcil.extract.sources.endings import VIDEO_ENDINGS
from avcil.labels import without_margins

SPLIT_NAMES = {
    **{name: "train" for name in ("train", "training")},
    **{name: "val" for name in ("val", "validate", "validation", "valid")},
    **{name: "test" for name in ("test", "testing")},
}
MAX_NAME_BYTES = 200  # a file name holds 255 on most systems, and numbers and an ending are added
_TIMED = re.compile(r"(.{11})_([0-9]{1,8})(?:_([0-9]{1,8}))?", re.DOTALL)  # YouTube's ids have 11 characters


@dataclass(frozen=True)
class Clip:
    """One clip to encode; `start_s`, `end_s` (s, from the file's start) where it is a part of its file."""

    id: str
    path: Path
    label: str
    split: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class ListedClip:
    """One clip as a list names it, before its file is known.

    `video` is the id of the video that the clip was cut from, `start` and `end` (whole s) where it was cut:
    they are part of the file's name, not a window within the file. `label` and `split` are None where the
    list does not say.
    """

    id: str
    video: str
    label: str | None
    split: str | None
    start: int | None = None
    end: int | None = None


def timed_name(name: str) -> tuple[str, int, int | None] | None:
    """Take `<11 characters>_<start>` or `..._<start>_<end>` apart; None for any other name."""
    found = _TIMED.fullmatch(name)
    return (found[1], int(found[2]), int(found[3]) if found[3] else None) if found else None


def named_clip(name: str, label: str | None, split: str | None) -> ListedClip:
    """A clip that is named like its file: by an id, or an id with times."""
    video, start, end = timed_name(name) or (name, None, None)
    return ListedClip(name, video, label, split, start, end)


def bare_name(text: str) -> str:
    """A file's name without folders, Windows' too, and ending; anything else as it is."""
    name = PurePosixPath(text.replace("\\", "/")).name or text
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot + suffix.lower() in VIDEO_ENDINGS else name


def checked_id(text: str, where: str) -> str:
    """An id that can be part of a file name; raises `ManifestError`."""
    why = _unusable(text)
    if not why and ("/" in text or len(text.encode()) > MAX_NAME_BYTES):
        why = f"it cannot be a file's name (no '/', at most {MAX_NAME_BYTES} bytes)"
    if why:
        raise ManifestError(f"{where}: id {text[:80]!r}: {why}")
    return text


def checked_label(text: str, where: str) -> str:
    """A label that any table can hold, without what cannot be seen around it; raises `ManifestError`."""
    label = without_margins(text)
    if why := _unusable(label):
        raise ManifestError(f"{where}: label {text[:80]!r}: {why}")
    return label


def checked_split(text: str, where: str) -> str:
    """train, val or test, whatever `SPLIT_NAMES` calls them, in any case; raises `ManifestError`."""
    if (split := split_of(text)) is None:
        raise ManifestError(f"{where}: split is {text[:80]!r}; it must be train, val or test")
    return split


def split_of(name: str) -> str | None:
    """The split that a word or a folder's name stands for, if it does."""
    return SPLIT_NAMES.get(name.strip().lower())


def _unusable(text: str) -> str:
    if not text.strip():
        return "it is empty"
    if "\0" in text:
        return "it holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    return ""


def name_text(name: str) -> str:
    """Give a file name as valid Unicode: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


Form = Callable[[int], str]


def unique_ids(n: int, forms: Sequence[Form]) -> list[str]:
    """Name n clips by the first form; those that share a name by the next one, and so on."""
    ids = [forms[0](i) for i in range(n)]
    for form in forms[1:]:
        counts = Counter(ids)
        ids = [form(i) if counts[id] > 1 else id for i, id in enumerate(ids)]
    return ids
