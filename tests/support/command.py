"""The command line inside the test's own process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a command left with and said."""

    code: int
    out: str
    err: str
