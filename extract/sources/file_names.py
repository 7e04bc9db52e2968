"""Names of files as people and lists write them, and the files that they mean."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from avcil.errors import ManifestError
from avcil.labels import same_letters

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True)
class FileNames:
    """Finds files whose names have the same letters in another form of Unicode (NFC, NFD), or blanks around.

    Every folder is read once.
    """

    _in_folder: dict[Path, dict[str, str]] = field(default_factory=dict)

    def meant(self, path: Path) -> Path:
        """The file or folder that a path means; the path itself where there is none."""
        if _exists(path) or path.parent == path:
            return path
        folder = self.meant(path.parent)
        name = self._names(folder).get(same_letters(path.name))
        return path if name is None else folder / name

    def listed(self, text: str, folder: Path, where: str) -> Path:
        """The file that a path in a list means, relative to `folder`, there or not.

        `\\` is taken for `/` and `~` for the home folder where there is no file that is called so. Raises
        `ManifestError` for a URL and for a full path of Windows.
        """
        path = folder / text
        if _exists(path):
            return path
        if text.lower().startswith("file://"):
            return self.meant(Path(unquote(urlsplit(text).path)))
        if _URL.match(text):
            raise ManifestError(f"{where}: path {text[:80]!r} is a URL; download the video, give its file")
        if _OF_WINDOWS.match(text):
            raise ManifestError(
                f"{where}: path {text[:80]!r} is of a Windows machine; give it relative to the list, or to "
                "a folder named by --videos"
            )
        text = text.replace("\\", "/")
        return self.meant(folder / (os.path.expanduser(text) if text.startswith("~/") else text))  # noqa: PTH111

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._in_folder:
            try:
                names = sorted(os.listdir(folder))  # noqa: PTH208
            except (OSError, ValueError):  # no folder, or none that can be read
                names = []
            self._in_folder[folder] = {same_letters(name): name for name in names}
        return self._in_folder[folder]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
