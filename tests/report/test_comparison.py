"""Which runs stand beside each other, on runs made up from their numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avcil.errors import ConfigError
from avcil.report.comparison import Comparison, compare
from avcil.report.comparison_tables import FORMATS, difference, heading
from avcil.report.statistics import PairedDifference
from avcil.train.config import MethodConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.record.found_runs import FinishedRun
from avcil.train.record.results import Results

CONFIG = RunConfig(protocol=ProtocolConfig(steps=2))
TITLES = {"avcil": "AV-CIL", "finetune": "fine-tuning"}
DEFAULTS = {"lambda_instance": 0.5, "class_term": True}


def run(mean: float, seed: int = 0, order: int = 0, cache: str = "c" * 64, **changes: Any) -> FinishedRun:
    protocol = replace(CONFIG.protocol, order="shuffled" if order else "listed", order_seed=order)
    method = MethodConfig(changes.pop("method", "avcil"), changes.pop("settings", DEFAULTS))
    changes = {"method": method, "protocol": protocol, "training": TrainingConfig(seed=seed), **changes}
    config = replace(CONFIG, **changes)
    result = Results.__new__(Results)
    numbers = {"mean_accuracy": mean, "last_accuracy": mean / 2, "average_forgetting": 1 - mean}
    numbers |= {"memory_bytes": 2_500_000, "seconds_per_step": 1.25 + seed, "old_clips": "exemplars"}
    title = TITLES.get(method.name, method.name)
    result.__dict__.update(
        numbers, method_title=title, accuracy=[mean, mean], classes=["a", "b"], step_sizes=[1, 1], memory=4
    )
    return FinishedRun(
        Path(f"{config.method.name}-{config.name}-{order}-{seed}"), config, cache, DEFAULTS, result
    )


def with_protocol(one: FinishedRun, protocol: ProtocolConfig, more: float) -> FinishedRun:
    """`one` under another protocol, a little better."""
    return run(one.result.mean_accuracy + more, method=one.config.method.name, protocol=protocol)


def the_table(*runs: FinishedRun, baseline: str | None = None) -> Comparison:
    (table,) = compare(runs, baseline).tables
    return table


def test_seeds_share_a_row_and_are_paired() -> None:
    ours = [run(0.5, seed=1), run(0.7, seed=2), run(0.9, seed=3)]
    theirs = [run(0.4, seed=1, method="finetune"), run(0.5, seed=2, method="finetune")]
    finetune, avcil = the_table(*ours, *theirs, baseline="finetune").rows
    assert (finetune.method, avcil.method) == ("finetune", "avcil") and not finetune.differences
    accuracy, gain = avcil.samples["mean_accuracy"], avcil.differences["mean_accuracy"]
    assert accuracy is not None and (accuracy.n, accuracy.mean) == (3, pytest.approx(0.7))
    assert (gain.n, gain.mean) == (2, pytest.approx(0.15))
    assert avcil.differences["average_forgetting"].mean == pytest.approx(-0.15)


def test_orders_of_the_classes_are_paired_too() -> None:
    runs = [run(0.1 * order, order=order, method=method) for order in (1, 2) for method in ("avcil", "lwf")]
    rows = the_table(*runs, baseline="lwf").rows
    assert [row.seeds for row in rows] == [((1, 0), (2, 0))] * 2
    assert rows[1].differences["mean_accuracy"].mean == 0


def test_a_baseline_is_of_the_same_modality() -> None:
    rows = the_table(
        run(0.5),
        run(0.3, method="finetune", modality="audio"),
        run(0.4, method="finetune"),
        baseline="finetune",
    ).rows
    assert [row.modality for row in rows] == ["audio", "audio-visual", "audio-visual"]
    assert [row.differences["mean_accuracy"].mean for row in rows if row.differences] == [pytest.approx(0.1)]


def test_other_tokens_have_a_table_of_their_own() -> None:
    assert len(compare([run(0.5), run(0.5, cache="d" * 64)]).tables) == 2


def test_ablations_are_told_apart() -> None:
    without = run(0.4, settings=DEFAULTS | {"class_term": False})
    stronger = run(0.6, settings=DEFAULTS | {"lambda_instance": 2.0})
    table = the_table(run(0.5), without, stronger, baseline="avcil")
    assert [row.variant for row in table.rows] == ["", "class term off", "lambda instance 2.0"]
    differences = [row.differences.get("mean_accuracy") for row in table.rows]
    assert differences[0] is None and [round(one.mean, 6) for one in differences[1:] if one] == [-0.1, 0.1]
    with pytest.raises(ConfigError, match=r"several ways \(.*class term off.*\); leave out all but one"):
        compare([without, stronger], "avcil")


def test_fidelities_are_told_apart_and_compared_with_their_own() -> None:
    runs = [
        run(value, method=method, fidelity=fidelity)
        for method, fidelity, value in [
            ("finetune", "released", 0.1),
            ("finetune", "corrected", 0.2),
            ("avcil", "released", 0.4),
            ("avcil", "corrected", 0.6),
        ]
    ]
    rows = the_table(*runs, baseline="finetune").rows
    assert [row.variant for row in rows] == ["fidelity corrected", "fidelity released"] * 2
    assert [round(row.differences["mean_accuracy"].mean, 6) for row in rows[2:]] == [0.4, 0.3]


def test_of_several_baselines_the_one_with_the_same_order_and_memory_is_meant() -> None:
    shuffled = replace(CONFIG.protocol, order="shuffled")
    runs = [run(0.1, method="finetune"), run(0.5)]
    runs += [with_protocol(one, shuffled, 0.3) for one in runs]
    assert [row.variant for row in the_table(*runs).rows] == ["", "order shuffled"] * 2
    rows = the_table(*runs, baseline="finetune").rows
    assert [round(row.differences["mean_accuracy"].mean, 6) for row in rows[2:]] == [0.4, 0.4]


def test_an_order_that_no_seed_drew_is_one_order() -> None:
    given = [run(0.5), with_protocol(run(0.5), replace(CONFIG.protocol, order_seed=7), 0.0)]
    assert "repeats" in compare(given).left_out[0]
    given[1].result.classes.reverse()
    assert "in another order than" in compare(given).left_out[0]


def test_the_fidelity_is_named() -> None:
    one, other = run(0.5), run(0.5, method="lwf", fidelity="corrected")
    assert heading(the_table(one)).endswith("cache cccccccc, fidelity released")
    assert heading(the_table(one, other)).endswith("fidelity corrected / released")


def test_a_run_given_twice_counts_once() -> None:
    comparisons = compare([run(0.5), run(0.5, name="copy")])
    assert comparisons.left_out == [
        "avcil-copy-0-0: repeats avcil-custom-0-0, the same run of the same seeds"
    ]
    assert comparisons.tables[0].rows[0].seeds == ((0, 0),)


def test_names_are_escaped() -> None:
    tables = [the_table(run(0.5, name='50 % a_b | "c", $d'))]
    assert r'50 \% a\_b \textbar{} "c", \$d' in FORMATS["latex"](tables)
    assert r'50 % a\_b \| "c", $d' in FORMATS["markdown"](tables)
    assert '"50 % a_b | ""c"", $d",2,1+1,' in FORMATS["csv"](tables)


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [(0.1, 0.021, "+10.0±2.1"), (-0.1, None, "-10.0"), (-1e-9, None, "0.0"), (1e-9, 0.0, "0.0±0.0")],
)
def test_a_difference_has_a_sign_unless_it_is_zero(mean: float, half: float | None, text: str) -> None:
    assert difference(PairedDifference(3, mean, half)) == text
    assert difference(None) == ""


def test_markdown_is_aligned() -> None:
    runs = [run(0.5, seed=seed, method=method) for seed in (1, 2) for method in ("avcil", "finetune")]
    lines = [line for line in FORMATS["markdown"]([the_table(*runs)]).splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[3].startswith("| AV-CIL      | audio-visual |   2 | 50.0±0.0 |")
