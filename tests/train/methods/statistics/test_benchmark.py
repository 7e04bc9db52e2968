"""The benchmark of statistics heads, on a problem of a fiftieth the size."""

import json

import pytest

from avcil.benchmarks import heads


def test_it_ends_with_its_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["heads", "--scale", "0.02", "--methods", "slda", "ranpac", "--threads", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    heads.main()
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert numbers["seconds"] > 0 and numbers["peak_gb"] > 0 and numbers["linearity"] >= 0
