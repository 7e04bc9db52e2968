"""`avcil train` over seeds and caches and `avcil compare`, on made-up tokens."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import Outcome

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache

SPEC = SyntheticSpec(classes=4, train=6, val=2, test=3, space=4, width=8)
SHORT = ["--steps", 2, "--memory", 8, "--epochs", 2, "--device", "cpu"]
Avcil = Callable[..., Outcome]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return path


def test_a_sweep_ends_with_its_table_and_goes_on(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    command = ["train", cache, "--out", tmp_path / "runs", "--method", "finetune", *SHORT]
    first = avcil(*command, "--seeds", "0,1")
    assert first.code == 0 and "run 2 of 2" in first.out, first.err
    assert "fine-tuning  audio-visual  2" in first.out and "mean of A_t over all steps" in first.out
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["seed-0", "seed-1"]
    again = avcil(*command, "--seeds", "0,1,2")
    assert "run 3 of 3" in again.out and again.out.count("step 1:") == 1 and "audio-visual  3" in again.out


def test_every_order_is_trained_with_every_seed(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    command = ["train", cache, "--out", tmp_path, "--method", "upper-bound", "--modality", "audio", *SHORT]
    assert avcil(*command, "--order-seeds", "0,1", "--seed", "5").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["order-0-seed-5", "order-1-seed-5"]
    facts = [json.loads((path / "run.json").read_text()) for path in sorted(tmp_path.iterdir())]
    assert facts[0]["classes"] != facts[1]["classes"]
    shown = avcil("compare", tmp_path)
    assert "upper bound  audio     2" in shown.out and shown.out.count("classes in steps of") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seeds", "1,x"], "--seeds '1,x'; give whole numbers"),
        (["--seeds", "1,1"], "each of them once"),
        (["--order-seeds", "-1"], "from 0 upwards"),
        (["--seed", "1", "--seeds", "1,2"], "--seed and --seeds exclude"),
        (["--order-seed", "1", "--order-seeds", "1,2"], "--order-seed and --order-seeds exclude"),
        (["--base", "3"], "base and increment go together"),
    ],
)
def test_a_bad_sweep_is_one_line(
    options: list[str], words: str, avcil: Avcil, cache: Path, tmp_path: Path
) -> None:
    refused = avcil("train", cache, "--out", tmp_path / "runs", "--epochs", 1, *options)
    assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_clips_without_tokens_are_counted(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    command = ["--out", tmp_path / "run", "--method", "finetune", *SHORT]
    assert avcil("train", cache, *command).err == ""
    shutil.copytree(cache, tmp_path / "half")
    shard = TokenCache(tmp_path / "half").shards[0].shard
    data = bytearray(shard.path.read_bytes())
    data[shard.offsets["crc32"] : shard.offsets["crc32"] + 8] = bytes(8)
    shard.path.write_bytes(data)
    said = avcil("train", tmp_path / "half", "--out", tmp_path / "less", *command[2:])
    assert said.code == 0 and "note: 2 of 44 clips have no tokens and are left out" in said.err


def test_a_run_is_not_turned_into_a_sweep(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    command = ["train", cache, "--out", tmp_path / "run", "--method", "finetune", *SHORT]
    assert avcil(*command).code == 0
    refused = avcil(*command, "--seeds", "0,1")
    assert refused.code == 2 and "holds a single run" in refused.err
    sweep = avcil(*command[:2], "--out", tmp_path / "sweep", *command[4:], "--seeds", "0")
    assert sweep.code == 0 and avcil(*command[:3], tmp_path / "sweep", *command[4:]).code == 2


def test_options_of_a_protocol_give_way(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.toml"
    protocol.write_text("[protocol]\nsteps = 4\nmemory = 8\n[epochs.finetune]\naudio = 3\n")
    command = ["train", cache, "--protocol", protocol, "--method", "finetune", "--modality", "audio"]
    assert "1+1+1+1 classes, 3 epochs" in avcil(*command, "--out", tmp_path / "a").out
    assert (
        "3+1 classes, 3 epochs" in avcil(*command, "--out", tmp_path / "b", "--base", 3, "--increment", 1).out
    )
    every = avcil(*command, "--out", tmp_path / "e", "--memory-per-class", 1, "--epochs", 1)
    assert every.code == 0 and 'name = "custom, changed"' in (tmp_path / "e" / "config.toml").read_text()
    assert "classes, 1 epochs" in avcil(*command, "--out", tmp_path / "c", "--epochs", 1).out
    repeated = avcil("train", cache, "--out", tmp_path / "d", "--protocol", tmp_path / "b" / "config.toml")
    assert "3+1 classes, 3 epochs" in repeated.out
    results = [(tmp_path / name / "results.json").read_bytes() for name in "bd"]
    assert results[0] == results[1]


def test_help_names_the_published_methods(avcil: Avcil, monkeypatch: pytest.MonkeyPatch) -> None:
    from avcil.train.methods import METHODS

    monkeypatch.setenv("COLUMNS", "300")
    shown = avcil("train", "--help").out
    assert all(f"{name}," in shown for name in METHODS)


def test_two_caches_are_trained_as_one(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    """The second cache brings the clips that the first lacks."""
    from avcil.cache import CacheWriter, TokenCache

    whole = TokenCache(cache)
    for name, labels in (("a", ("class-000", "class-001")), ("b", ("class-002", "class-003"))):
        clips = [clip for clip in whole.clips if clip.label in labels]
        tokens = whole.read([clip.id for clip in clips])
        with CacheWriter.open(tmp_path / name, whole.info, clips) as writer:
            writer.write([clip.id for clip in clips], tokens.visual, tokens.audio)
    run = tmp_path / "run"
    trained = avcil("train", tmp_path / "a", tmp_path / "b", "--out", run, "--method", "finetune", *SHORT)
    assert trained.code == 0, trained.err
    stored = json.loads((run / "run.json").read_text())
    assert stored["caches"] == [str(tmp_path / "a"), str(tmp_path / "b")] and len(stored["classes"]) == 4
    assert avcil("eval", run).code == 0
    (tmp_path / "b").rename(tmp_path / "c")
    gone = avcil("eval", run)
    assert gone.code == 2 and f"no longer at {tmp_path / 'b'}" in gone.err
    moved = ["--cache", tmp_path / "a", "--cache", tmp_path / "c"]
    assert avcil("eval", run, *moved).code == 0
    assert "not the cache" in avcil("eval", run, "--cache", tmp_path / "a").err


@pytest.fixture(scope="module")
def runs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from avcil.cache import TokenCache
    from avcil.train.config import MethodConfig, ProtocolConfig, RunConfig, TrainingConfig
    from avcil.train.plan import plan_run
    from avcil.train.run import train_run

    folder = tmp_path_factory.mktemp("runs")
    for method in ("finetune", "avcil"):
        for seed in (0, 1):
            training = TrainingConfig(epochs=1, seed=seed, device="cpu")
            config = RunConfig(
                method=MethodConfig(method), protocol=ProtocolConfig(steps=2), training=training
            )
            train_run(plan_run(TokenCache(cache), config), folder / method / f"seed-{seed}")
    return folder


def test_comparison_on_the_terminal(avcil: Avcil, runs: Path) -> None:
    shown = avcil("compare", runs, "--baseline", "finetune")
    lines = shown.out.splitlines()
    assert shown.code == 0 and lines[0].startswith("custom: 4 classes in steps of 2 x 2, cache ")
    assert [line.split()[0] for line in lines[2:4]] == ["fine-tuning", "AV-CIL"]
    assert max(map(len, lines[:4])) <= 80


@pytest.mark.parametrize(("ending", "option"), [("md", "markdown"), ("csv", "csv"), ("tex", "latex")])
def test_a_comparison_is_written(ending: str, option: str, avcil: Avcil, runs: Path, tmp_path: Path) -> None:
    assert avcil("compare", runs, "--out", tmp_path / f"table.{ending}").code == 0
    printed = avcil("compare", runs, f"--{option}").out
    assert (tmp_path / f"table.{ending}").read_text() == printed and "audio-visual" in printed
    assert [path.name for path in tmp_path.iterdir()] == [f"table.{ending}"]


def test_a_comparison_for_programs(avcil: Avcil, runs: Path) -> None:
    table = json.loads(avcil("compare", runs / "avcil", "--json").out)
    (row,) = table["comparisons"][0]["rows"]
    assert row["method"] == "avcil" and row["seeds"] == [[0, 0], [0, 1]]
    (line,) = csv.DictReader(avcil("compare", runs / "avcil", "--csv").out.splitlines())
    assert float(line["mean_accuracy_mean"]) == row["samples"]["mean_accuracy"]["mean"]


def test_unfinished_runs_are_named_and_left_out(avcil: Avcil, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "avcil" / "seed-1" / "step-01")
    shown = avcil("compare", tmp_path / "runs")
    assert "left out: " in shown.err and "avcil/seed-1: 1 of 2 steps are finished" in shown.err
    assert "AV-CIL       audio-visual  1" in shown.out
    shutil.rmtree(tmp_path / "runs" / "finetune")
    shutil.rmtree(tmp_path / "runs" / "avcil" / "seed-0")
    nothing = avcil("compare", tmp_path / "runs")
    assert nothing.code == 2 and "no run is finished" in nothing.err


def test_a_comparison_needs_no_cache_and_no_results(avcil: Avcil, runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "avcil" / "seed-0", run)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"caches": ["/nowhere"]}))
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"mean_accuracy": 2.0}))
    shown = avcil("compare", run, "--json")
    assert shown.code == 0
    (row,) = json.loads(shown.out)["comparisons"][0]["rows"]
    assert row["samples"]["mean_accuracy"]["mean"] == results["mean_accuracy"] <= 1
    (run / "run.json").write_text(json.dumps({key: facts[key] for key in facts if key != "format"}))
    refused = avcil("compare", run)
    assert refused.code == 2 and "another version of avcil" in refused.err and refused.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["RUNS"]])
def test_comparing_imports_nothing_heavy(arguments: list[str], runs: Path) -> None:
    code = (
        "import sys; from avcil import cli\n"
        "try: cli.main()\n"
        "except SystemExit as left: assert not left.code\n"
        "print('imported:', *sorted({'torch', 'torchaudio', 'h5py'} & set(sys.modules)))"
    )
    given = [str(runs) if argument == "RUNS" else argument for argument in arguments]
    command = [sys.executable, "-c", code, "compare", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") > 5 and done.stdout.endswith("\nimported:\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--baseline", "magic"], "no run is of the baseline 'magic'; there are avcil, finetune"),
        (["--csv", "--latex"], "--csv and --latex exclude each other"),
        (["--out", "table.docx"], "its ending is none of .md, .csv, .tex, .json"),
        (["nowhere"], "nowhere is not a run folder and holds none"),
    ],
)
def test_a_bad_comparison_is_one_line(options: list[str], words: str, avcil: Avcil, runs: Path) -> None:
    refused = avcil("compare", runs, *options)
    assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1


def test_scalars_for_tensorboard(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = ["train", cache, "--out", tmp_path / "run", "--method", "finetune", *SHORT]
    assert avcil(*command, "--tensorboard").code == 0
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"loss/total", "loss/cross_entropy", "accuracy/validation", "accuracy/test"} == set(
        read.Tags()["scalars"]
    )
    assert [event.step for event in read.Scalars("loss/total")] == [0, 1, 2, 3]
    assert len(read.Scalars("accuracy/test")) == 2


def test_a_step_without_epochs_has_scalars_too(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    method = "avcil.examples.nearest_class_mean:NEAREST_CLASS_MEAN"
    command = ["train", cache, "--out", tmp_path / "run", "--method", method, *SHORT, "--tensorboard"]
    assert avcil(*command).code == 0
    shutil.rmtree(tmp_path / "run" / "step-01")
    shutil.rmtree(tmp_path / "run" / "tensorboard")
    assert avcil(*command).code == 0
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in read.Scalars("accuracy/test")] == [1]


def test_scalars_need_their_package(
    avcil: Avcil, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    refused = avcil(
        "train", cache, "--out", tmp_path / "run", "--method", "finetune", *SHORT, "--tensorboard"
    )
    assert refused.code == 2 and "pip install 'avcil[tensorboard]'" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_shown_as_it_was_typed(avcil: Avcil, cache: Path, tmp_path: Path) -> None:
    """`:x:` would be an emoji to the library that draws."""
    refused = avcil("train", cache, "--out", tmp_path / "run", "--method", "nowhere:x:", *SHORT)
    assert refused.code == 2 and "--method nowhere:x:: cannot import 'nowhere'" in refused.err
    trained = avcil("train", cache, "--out", tmp_path / ":x:", "--method", "finetune", *SHORT)
    assert f"run: {tmp_path}/:x:\n" in trained.out
