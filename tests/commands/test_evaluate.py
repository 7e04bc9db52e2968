"""`avcil eval` as people use it, on a run whose labels hold anything."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.command import Outcome
from support.odd_run import ODD_LABELS, odd_run

from avcil.commands.console import show
from avcil.report.evaluation_tables import headline_table
from avcil.report.words import percent
from avcil.train.record.evaluation import evaluate_run
from avcil.train.record.run_folder import Run

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return odd_run(tmp_path_factory.mktemp("odd"))


def test_tables_fit_eighty_columns_and_stay_in_their_lines(run: Run, avcil: Command) -> None:
    shown = avcil("eval", run.path)
    assert shown.code == 0, shown.err
    tables = shown.out.partition("mean accuracy")[0].splitlines()[2:]
    assert max(map(len, tables)) <= 80
    assert "\u202e" not in shown.out and "\\u202eright to left" in shown.out
    assert "two lines" in shown.out and "guessing" in shown.out and "a[last,i] - a[i,i]" in shown.out


@pytest.mark.parametrize("width", [20, 24, 40, 50, 80])
def test_a_narrow_terminal_takes_no_number_away(
    run: Run, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = io.StringIO()
    terminal = Console(file=page, force_terminal=True, width=width, soft_wrap=True, color_system=None)
    monkeypatch.setattr("avcil.commands.console.out", terminal)
    result = evaluate_run(run)
    show(headline_table(result))
    shown = page.getvalue()
    assert "average forgetting" in shown and percent(result.average_forgetting) in shown


def test_all_formats_say_the_same(run: Run, avcil: Command) -> None:
    table = json.loads(avcil("eval", run.path, "--json").out)
    assert table["classes"] == list(ODD_LABELS) and table["split"] == "test"
    assert sum(map(sum, table["confusion"])) == table["clips"] == 18
    assert table["most_confused"][0].keys() == {"true", "taken_for", "clips", "of_clips"}
    rows = list(csv.DictReader(io.StringIO(avcil("eval", run.path, "--csv").out)))
    single = {row["measure"]: row["value"] for row in rows if not row["step"]}
    assert float(single["mean_accuracy"]) == table["mean_accuracy"]
    of_class = {row["of"]: float(row["value"]) for row in rows if row["measure"] == "per_class"}
    assert of_class == table["per_class"]
    latex = avcil("eval", run.path, "--latex").out
    assert not set("<>|") & set(latex)  # LaTeX's own fonts have other characters there
    assert f"{100 * table['matrix'][2][0]:.1f}" in latex and latex.count(r"\\") == 4


def test_validation_clips_are_checked_against_the_kept_epoch(run: Run, avcil: Command) -> None:
    table = json.loads(avcil("eval", run.path, "--split", "val", "--json").out)
    record = run.record(2)
    assert table["clips"] == 6
    assert table["last_accuracy"] == record.epochs[record.best_epoch].val_accuracy
    assert "test clips" not in avcil("eval", run.path, "--split", "val").out
    told = avcil("eval", run.path, "--split", "val", "--html")
    assert told.out == f"report: {run.path / 'report-val.html'}\n"


def test_a_validation_accuracy_that_is_not_the_networks_is_refused(avcil: Command, tmp_path: Path) -> None:
    path = odd_run(tmp_path).path
    record = path / "step-02" / "record.json"
    table = json.loads(record.read_text(encoding="utf-8"))
    kept = table["epochs"][table["best_epoch"]]
    kept["val_accuracy"] = 1.0 if kept["val_accuracy"] < 0.5 else 0.0
    record.write_text(json.dumps(table), encoding="utf-8")
    refused = avcil("eval", path, "--split", "val")
    assert refused.code == 2 and "validation accuracy of step 2" in refused.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "--csv"], "--json and --csv exclude each other"),
        (["--split", "train"], "'--split': 'train' is not one of 'test', 'val'"),
    ],
)
def test_a_bad_request_is_one_line(options: list[str], words: str, run: Run, avcil: Command) -> None:
    refused = avcil("eval", run.path, *options)
    assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1
