"""The command line in this process: arguments in, exit code and what was printed out."""

import contextlib
import io
import sys
from pathlib import Path
from unittest import mock

from support.command import Outcome

from avcil import cli

DEMO_ENCODERS = ("--visual-encoder", "demo", "--audio-encoder", "demo")


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
