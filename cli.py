"""Owns the command line: its entry point and its list of commands; computes nothing itself.

Nothing heavy is imported at the top of a command, so that `avcil --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from avcil import __version__, rest_idle_threads
from avcil.commands.attend import attend
from avcil.commands.cache import app as cache
from avcil.commands.compare import compare
from avcil.commands.console import err, out, printable
from avcil.commands.demo import demo
from avcil.commands.doctor import doctor
from avcil.commands.evaluate import evaluate
from avcil.commands.extract import extract
from avcil.commands.predict import predict
from avcil.commands.train import train
from avcil.errors import AvcilError

app = typer.Typer(
    name="avcil",
    help="Learn new classes of video, by sight and sound together, without forgetting the old ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(extract)
app.command()(train)
app.command(name="eval")(evaluate)
app.command()(compare)
app.command()(predict)
app.command()(attend)
app.command()(doctor)
app.command()(demo)
app.add_typer(cache, name="cache")

INTERRUPTED = 130


def main() -> None:
    """Entry point: an error a user can mend is one line on standard error and exit code 2."""
    rest_idle_threads()
    try:
        code = app(standalone_mode=False) or 0
    except AvcilError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        words = error.format_message().replace("Value error, ", "")  # typer, before a choice it lacks
        if not words:  # no command: the help was printed
            sys.exit(2)
        _fail(f"{words} (avcil --help lists commands, avcil COMMAND --help options)")
    if code == INTERRUPTED:  # typer hands Ctrl-C over as this code
        err.print("interrupted; give the same command again to go on")
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    err.print(f"error: {printable(message)}", markup=False)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        out.print(f"avcil {__version__}")
        raise typer.Exit
