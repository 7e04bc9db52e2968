import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.command import Outcome

from avcil import rest_idle_threads

rest_idle_threads()  # as the command line does, before torch is imported


@pytest.fixture
def avcil(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """avcil(*arguments) runs a command as `avcil` would."""
    from avcil import cli

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["avcil", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        code = left.value.code
        return Outcome(code if isinstance(code, int) else 0 if code is None else 1, out, err)

    return run


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process of several has checked."""
    golden = sys.modules.get("support.golden")
    if golden is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["golden"] = dict(golden.CHECKED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take in what another process has checked."""
    from support import golden

    golden.CHECKED.update(node.workeroutput.get("golden", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much of the reference numbers was checked."""
    golden = sys.modules.get("support.golden")
    if golden is not None and golden.CHECKED:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(golden.CHECKED.items()))
        terminalreporter.write_line(f"golden: {counts}")
