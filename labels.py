"""Labels as people read them: which letters are the same, and which labels cannot be told apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"  # without a width of their own


def same_letters(text: str) -> str:
    """`text` in the form in which equal letters are equal code points (NFC), without blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def without_margins(text: str) -> str:
    """`same_letters`, without anything around it that cannot be seen."""
    while text != (text := same_letters(text).strip(INVISIBLE)):
        pass
    return text


def look_alike(labels: Iterable[str]) -> str:
    """The first two different labels that look the same, as `'cat' and 'ca\\u200bt'`; empty if none do."""
    seen: dict[str, str] = {}
    for label in labels:
        letters = (c for c in without_margins(label) if c not in INVISIBLE)
        visible = "".join(" " if unicodedata.category(c) == "Zs" else c for c in letters)
        if (other := seen.setdefault(visible, label)) != label:
            return f"{other!a} and {label!a}"
    return ""
