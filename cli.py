"""The command line: its entry point and its list of commands; computes nothing itself.

Nothing heavy is imported at the top of a command, so that `avcil --help` answers at once.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from pathlib import Path
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

MAX_MESSAGE = 2000  # characters of an error
INTERRUPTED = 130
NO_READER = 141  # as a shell reports a program that SIGPIPE ended


def main() -> None:
    """Entry point: an error that a user can correct is one line on standard error and exit code 2."""
    rest_idle_threads()
    output = os.dup(1) if sys.stdout else -1  # rich puts another file in its place when nobody reads it
    try:
        code = app(standalone_mode=False) or 0
        if sys.stdout:
            sys.stdout.flush()
    except AvcilError as error:
        _fail(str(error))
    except OSError as error:
        _leave_for(error, output)
    except SystemExit as left:  # typer and rich leave on any broken pipe, of standard output or not
        if not isinstance(left.__context__, BrokenPipeError):
            raise
        _leave_for(left.__context__, output)
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


def _leave_for(error: OSError, output: int) -> NoReturn:
    """Print what the system refused, and where; nothing where whoever read the output (`| head`) has gone."""
    if isinstance(error, BrokenPipeError) and _has_no_reader(output):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes it once more on the way out
        sys.exit(NO_READER)
    what = ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
    root = Path(__file__).parent
    places = [
        frame for frame in traceback.extract_tb(error.__traceback__) if root in Path(frame.filename).parents
    ]
    place = f", {Path(places[-1].filename).relative_to(root)} line {places[-1].lineno}" if places else ""
    cause = f", from {error.__cause__!r}" if error.__cause__ else ""
    _fail(f"{what} ({type(error).__name__}{place}{cause})")


def _has_no_reader(output: int) -> bool:
    """Whether a descriptor is of a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _fail(message: str) -> NoReturn:
    if len(message) > MAX_MESSAGE:  # a name or a value in it is what is wrong
        message = f"{message[: MAX_MESSAGE // 2]} ... {message[-MAX_MESSAGE // 2 :]}"
    err.print(f"error: {printable(message)}", markup=False)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        out.print(f"avcil {__version__}")
        raise typer.Exit
