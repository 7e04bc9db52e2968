"""The command line as people use it: the whole way on small real videos, and one clear line for errors."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command import Outcome

from avcil.commands.console import printable
from avcil.demo.videos import DemoSpec, render_demo
from avcil.train.protocol_file import PRESETS, load_protocol

ENCODERS = ["--visual-encoder", "demo", "--audio-encoder", "demo"]
SPEC = DemoSpec(train=3, val=1, test=1, min_s=0.5, max_s=0.7, fps=10)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_demo(tmp_path_factory.mktemp("videos"), SPEC)


@pytest.fixture(scope="module")
def cache(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache") / "cache"
    command = [sys.executable, "-m", "avcil", "extract", videos, "--out", path, *ENCODERS]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 clips encoded" in done.stdout and "0 failed" in done.stdout
    return path


def test_the_whole_way(cache: Path, avcil: Callable[..., Outcome], tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = avcil("train", cache, "--out", run, "--steps", 4, "--memory", 12, "--epochs", 2)
    assert trained.code == 0 and "step 4: 9 clips, 9 exemplars" in trained.out, trained.err
    shown = avcil("eval", run)
    assert shown.code == 0 and "AV-CIL, audio-visual; custom, released" in shown.out
    assert "average forgetting" in shown.out and "mean of F_t" in shown.out
    result: dict[str, Any] = json.loads(avcil("eval", run, "--json").out)
    assert len(result["accuracy"]) == 4 and [len(row) for row in result["matrix"]] == [1, 2, 3, 4]
    assert result["mean_accuracy"] == pytest.approx(sum(result["accuracy"]) / 4)
    assert set(result["per_class"]) == set(result["classes"])


def test_extraction_again_finds_nothing_to_do(
    videos: Path, cache: Path, avcil: Callable[..., Outcome]
) -> None:
    again = avcil("extract", videos, "--out", cache, *ENCODERS)
    assert again.code == 0 and "60 there before" in again.out


def test_training_again_finds_nothing_to_do(
    cache: Path, avcil: Callable[..., Outcome], tmp_path: Path
) -> None:
    command = ["train", cache, "--out", tmp_path / "run", "--method", "finetune", "--steps", 2, "--epochs", 1]
    assert avcil(*command).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = avcil(*command)
    assert again.code == 0 and "step 1:" not in again.out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_config_file_repeats_a_run(cache: Path, avcil: Callable[..., Outcome], tmp_path: Path) -> None:
    first = ["--steps", 2, "--epochs", 2, "--seed", 7, "--order-seed", 3, "--modality", "audio-visual"]
    assert avcil("train", cache, "--out", tmp_path / "a", *first).code == 0
    config = tmp_path / "a" / "config.toml"
    assert avcil("train", cache, "--out", tmp_path / "b", "--protocol", config).code == 0
    weights = "step-01/model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 13], "13 steps need at least 13 classes but there are 12"),
        (["--classes-per-step", 13], "asks for 13 classes"),
        (["--protocol", "ave-ci"], "asks for 28 classes"),
        (["--protocol", "nowhere.toml"], "nowhere.toml"),
        (["--steps", 2, "--classes-per-step", 6], "exclude each other"),
        (["--steps", 2, "--method", "magic"], "method 'magic' is unknown"),
        (["--steps", 2, "--modality", "audio"], "has no modality 'audio'"),
        ([], "no steps given"),
    ],
)
def test_a_bad_request_is_one_line_and_leaves_nothing(
    options: list[str], words: str, cache: Path, avcil: Callable[..., Outcome], tmp_path: Path
) -> None:
    refused = avcil("train", cache, "--out", tmp_path / "run", *options)
    assert refused.code == 2 and words in refused.err
    assert refused.err.startswith("error: ") and refused.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def write_manifest(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    path.write_text("id,path,label,split\n" + "".join(",".join(row) + "\n" for row in rows))
    return path


def test_bad_sources_are_one_line_and_leave_nothing(avcil: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.mp4").write_bytes(b"not a video" * 100)
    unreadable = write_manifest(tmp_path / "noise.csv", [("a", "noise.mp4", "x", "train")])
    gone = write_manifest(tmp_path / "gone.csv", [("a", "nowhere.mp4", "x", "train")])
    before = sorted(tmp_path.rglob("*"))
    for source in (tmp_path / "nowhere", tmp_path / "empty", unreadable, gone):
        refused = avcil("extract", source, "--out", tmp_path / "cache", *ENCODERS, "--workers", 0)
        assert refused.code == 2 and refused.err.count("\n") == 1, (source, refused.err)
        assert refused.err.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unreadable_video_does_not_stop_the_others(
    videos: Path, avcil: Callable[..., Outcome], tmp_path: Path
) -> None:
    good = next(videos.parent.rglob("*.mp4"))
    (tmp_path / "noise.mp4").write_bytes(b"not a video" * 100)
    rows = [("good", str(good), "x", "train"), ("bad", "noise.mp4", "x", "train")]
    source = write_manifest(tmp_path / "clips.csv", rows)
    done = avcil("extract", source, "--out", tmp_path / "cache", *ENCODERS, "--workers", 0)
    assert done.code == 0 and "1 clips encoded" in done.out and "1 failed" in done.out
    assert "bad: unreadable" in done.err
    assert "bad,unreadable" in (tmp_path / "cache" / "failures.csv").read_text()


def test_a_class_that_is_tested_but_never_trained(
    videos: Path, avcil: Callable[..., Outcome], tmp_path: Path
) -> None:
    paths = sorted(map(str, videos.parent.rglob("*.mp4")))
    rows = [
        (f"{label}-{split}", paths.pop(), label, split)
        for label in "ab"
        for split in ("train", "val", "test")
    ]
    rows.append(("stranger", paths.pop(), "c", "test"))
    source = write_manifest(tmp_path / "clips.csv", rows)
    assert avcil("extract", source, "--out", tmp_path / "cache", *ENCODERS, "--workers", 0).code == 0
    refused = avcil("train", tmp_path / "cache", "--out", tmp_path / "run", "--steps", 2)
    assert refused.code == 2 and "no train clips for class 'c'" in refused.err
    assert not (tmp_path / "run").exists()


def test_base_encoders_ask_for_weights(videos: Path, avcil: Callable[..., Outcome], tmp_path: Path) -> None:
    refused = avcil("extract", videos, "--out", tmp_path / "cache")
    assert refused.code == 2 and "--visual-weights" in refused.err and refused.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "Missing argument"),
        (["bogus"], "No such command"),
        (["train", "cache", "--out", "run", "--steps", "two"], "--steps"),
        (["extract", "videos", "--out", "cache", "--batch", "0"], "--batch"),
        (["train", "cache", "--out", "run", "--steps", "2", "--seed", "-1"], "training.seed = -1"),
    ],
)
def test_a_slip_of_the_pen_is_one_line(
    arguments: list[str], words: str, avcil: Callable[..., Outcome]
) -> None:
    refused = avcil(*arguments)
    assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1


def test_an_interruption_is_said(
    cache: Path, avcil: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("avcil.train.step.fit_step", interrupt)
    stopped = avcil("train", cache, "--out", tmp_path / "run", "--steps", 2)
    assert stopped.code == 130 and "give the same command again" in stopped.err


def test_a_label_cannot_write_on_the_terminal() -> None:
    assert printable("a\x1b[31m\nb\u202e") == "a\\x1b[31m b\\u202e"


def test_help_names_the_commands(avcil: Callable[..., Outcome]) -> None:
    shown = avcil("--help")
    assert shown.code == 0 and all(command in shown.out for command in ("extract", "train", "eval", "demo"))


@pytest.mark.parametrize(
    "command",
    [
        *("extract", "train", "eval", "compare", "predict", "attend", "doctor", "demo"),
        *("cache info", "cache verify", "cache export", "cache pool", "cache relabel", "cache import"),
    ],
)
def test_help_has_an_example_and_fits_eighty_columns(
    command: str, avcil: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = avcil(*command.split(), "--help").out.splitlines()
    example = next(number for number, line in enumerate(lines) if line.rstrip().endswith("Example:"))
    assert lines[example + 2].strip().startswith(f"avcil {command}")
    assert max(map(len, lines)) <= 80


def test_help_names_every_preset(avcil: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = avcil("train", "--help").out
    assert all(preset.stem in shown for preset in PRESETS.glob("*.toml"))


def test_the_demo_ends_with_a_report(
    avcil: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avcil.demo.videos.DemoSpec", lambda: SPEC)
    monkeypatch.setattr("avcil.commands.demo.DEMO_RUNS", (("avcil", "audio-visual"),))
    whole = load_protocol("demo")
    config = replace(whole.config, training=replace(whole.config.training, epochs=1))
    short = replace(whole, config=config)
    monkeypatch.setattr("avcil.train.protocol_file.load_protocol", lambda name: short)
    done = avcil("demo", "--out", tmp_path, "--seeds", "42")
    report = tmp_path / "runs" / "avcil-audio-visual-seed42" / "report.html"
    assert done.code == 0 and f"report: {report}" in done.out, done.err
    page = report.read_text(encoding="utf-8")
    assert "tell 12 classes of video apart by sound and picture" in page and "a memory of 36 clips" in page


def test_demo_data_only(
    avcil: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avcil.demo.videos.DemoSpec", lambda: SPEC)
    done = avcil("demo", "--out", tmp_path, "--data-only")
    assert done.code == 0 and len(list(tmp_path.rglob("*.mp4"))) == 60
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("code", "returned", "message"),
    [
        ("sys.stdout.write('x' * 10**6)", 141, ""),
        ("out.print('x' * 10**6)", 141, ""),
        ("sys.stdout.write('short, flushed at the end')", 141, ""),
        ("os.write(nobody_reads(), b'x')", 2, "error: Broken pipe (BrokenPipeError"),
        ("open('/nonexistent/x')", 2, "error: No such file or directory: /nonexistent/x (FileNotFoundError"),
    ],
)
def test_a_closed_pipe_is_quiet_if_it_is_the_output(code: str, returned: int, message: str) -> None:
    script = f"""
import os, sys
from avcil import cli
from avcil.commands.console import out
def nobody_reads():
    sys.stdin.read()
    read, write = os.pipe()
    os.close(read)
    return write
@cli.app.command()
def act():
    sys.stdin.read()
    {code}
sys.argv = ["avcil", "act"]
cli.main()
"""
    is_output = returned == 141
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        if is_output:
            process.stdout.close()
        process.stdin.close()
        errors = process.stderr.read()
    assert process.returncode == returned
    assert errors.startswith(message) and len(errors.splitlines()) == (0 if is_output else 1)
