"""The command line in this process: arguments in, exit code and what was printed out."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from avcil import cli

DEMO_ENCODERS = ("--visual-encoder", "demo", "--audio-encoder", "demo")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def avcil(*arguments: str | int | Path) -> Outcome:
    """Run `avcil ARGUMENTS`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = mock.patch.object(sys, "argv", ["avcil", *map(str, arguments)])
    with command, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
    return Outcome(code, out.getvalue(), err.getvalue())
