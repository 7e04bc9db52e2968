"""`avcil doctor`: what works on this machine, and the remedy for what does not."""

from __future__ import annotations

from dataclasses import asdict

import typer

from avcil.commands.console import out, printable, write_json
from avcil.commands.options import AsJson

MARKS = {"ok": "ok", "broken": "BROKEN", "absent": "-"}


def doctor(as_json: AsJson = False) -> None:
    """Try what avcil needs here, and give the remedy for what does not work.

    BROKEN stands before what extract, train or eval need, and the exit code
    is 1. What would be useful and is absent has a dash. Example:

    avcil doctor
    """
    from avcil.doctor import check_all, works

    checks = check_all()
    if as_json:
        write_json({"works": works(checks), "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            out.print(printable(f"{MARKS[check.state]:<6} {check.name}: {check.found}"), markup=False)
            if check.remedy:
                out.print(f"       {check.remedy}", markup=False)
    if not works(checks):
        raise typer.Exit(1)
