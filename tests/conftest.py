import sys

import pytest

from avcil import rest_idle_threads

rest_idle_threads()  # as the command line does, before torch is imported


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much of the reference numbers was checked."""
    golden = sys.modules.get("support.golden")
    if golden is not None and golden.CHECKED:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(golden.CHECKED.items()))
        terminalreporter.write_line(f"golden: {counts}")
