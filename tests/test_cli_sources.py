"""`avcil extract` on published lists: what is missing is said and noted, and the rest goes on."""

import csv
import sys
from pathlib import Path

import pytest
from support.clip_files import write_clip

from avcil import cli

ENCODERS = ["--visual-encoder", "demo", "--audio-encoder", "demo", "--workers", "0"]
GOOD, GONE = "-aaaaaaaaa1", "b_b_b_b_b_2"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["avcil", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code if isinstance(left.value.code, int) else 0


def test_missing_videos_are_listed_by_class_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / f"{GOOD}_000030.mp4")
    listed = [(GOOD, "[bold]kept, really"), (GONE, "[bold]kept, really")]
    listed += [(f"{i:011d}", f"class {i}") for i in range(20)]
    with (tmp_path / "vggsound.csv").open("w", newline="") as file:
        csv.writer(file).writerows([id, 30, label, "train"] for id, label in listed)

    source = tmp_path / "vggsound.csv"
    out = tmp_path / "cache"
    code = run(monkeypatch, "extract", source, "--videos", tmp_path / "videos", "--out", out, *ENCODERS)
    shown = capsys.readouterr()
    assert code == 0, shown.err
    coverage = shown.err.splitlines()[:9]
    assert coverage[0] == "21 of 22 videos are missing; there are, by class:"
    assert coverage[1] == "    0 %  0 of 1  class 0"
    assert coverage[8] == "  and 14 more classes lack some"
    assert "1 clips encoded" in shown.out and "21 failed" in shown.out
    with (out / "failures.csv").open(newline="") as file:
        failures = {row["id"]: row["kind"] for row in csv.DictReader(file)}
    assert failures == dict.fromkeys([f"{id}_000030" for id, _ in listed[1:]], "missing")

    only = tmp_path / "only.txt"
    only.write_text(f"{GOOD}\n{GONE}\nnowhere\n")
    options = ["--format", "vggsound", "--list", only, "--videos", tmp_path / "videos"]
    assert run(monkeypatch, "extract", source, "--out", out, *options, *ENCODERS) == 0
    shown = capsys.readouterr()
    assert "   50 %  1 of 2  [bold]kept, really" in shown.err
    assert "1 listed ids are left out, no class or no clip goes with them: nowhere" in shown.err


def test_an_unknown_format_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").write_text("x\n")
    code = run(monkeypatch, "extract", tmp_path / "x.txt", "--out", tmp_path / "c", "--format", "avi")
    shown = capsys.readouterr().err
    assert (
        code == 2 and "'--format': 'avi' is not one of 'auto', 'folder'" in shown and shown.count("\n") == 1
    )


def test_what_a_folder_holds_besides_clips_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat/take 12:30.mp4", "dog/more/1.mp4", "loose.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(tmp_path / "videos" / name, n_frames=4, seconds=0.3)
    (tmp_path / "videos" / "cat" / "x.part").touch()
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "extract", "videos", "--out", "cache", *ENCODERS) == 0
    shown = capsys.readouterr()
    assert "2 clips encoded" in shown.out
    assert shown.err.splitlines() == [
        "note: videos: clips left out because they lie in no class folder: 1 (loose.mp4)",
        "note: videos: files left out by their endings: 1 (1 .part)",
    ]


@pytest.mark.parametrize("name", ["-3B32lodo2M.mp4", "--PQM4-hqg.mp4"])
def test_a_name_that_begins_with_a_dash(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "extract", name, "--out", "cache") == 2
    assert "./" not in capsys.readouterr().err
    Path(name).touch()
    assert run(monkeypatch, "extract", name, "--out", "cache") == 2
    shown = capsys.readouterr().err
    assert f"a name that begins with a dash is written ./{name}" in shown and shown.count("\n") == 1
