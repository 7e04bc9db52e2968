"""The child processes of this one, by what is in their command line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children(text: str, of: str = "self") -> list[int]:
    """Process ids of the children (ended ones that nobody waited for too) whose command line holds `text`."""
    found = []
    for listed in Path(f"/proc/{of}/task").glob("*/children"):
        for pid in map(int, listed.read_text().split()):
            with suppress(OSError):  # it has just ended
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                if text in line or not line:
                    found.append(pid)
    return found
