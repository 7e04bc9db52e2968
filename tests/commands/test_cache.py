"""`avcil cache` as people use it."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avcil import cli
from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "cache"
    write_synthetic_cache(path, SyntheticSpec(classes=2, train=3, val=1, test=1, time=1, space=2, width=4))
    return path


@pytest.fixture
def avcil_cache(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["avcil", "cache", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def damage(cache: Path) -> None:
    shard = TokenCache(cache).shards[0].shard
    data = bytearray(shard.path.read_bytes())
    data[shard.offsets["audio"] + 2 * 16] ^= 1
    shard.path.write_bytes(data)


def test_info(cache: Path, avcil_cache: Run) -> None:
    code, out, _ = avcil_cache("info", cache)
    assert code == 0 and "10 of 10 clips of 2 classes have tokens" in out
    assert "visual [1, 2, 4] float16" in out and "recipe: synthetic" in out and "class-001" in out
    content = json.loads(avcil_cache("info", cache, "--json")[1])
    assert content["classes"]["class-000"]["train"] == {"written": 3, "listed": 3}
    assert content["fingerprint"] == TokenCache(cache).fingerprint and content["failures"] == {}


def test_any_label_is_one_short_line(cache: Path, tmp_path: Path, avcil_cache: Run) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), ("val-000-0000", "a\n\x1b[2J\u202eb" + 8000 * "c")])
    lines = avcil_cache("info", cache)[1].count("\n")
    assert avcil_cache("relabel", cache, tmp_path / "t.csv")[0] == 0
    out = avcil_cache("info", cache)[1]
    assert out.count("\n") == lines + 1 and max(map(len, out.splitlines())) < 200
    assert "a \\x1b[2J\\u202ebc" in out


def test_verify_and_repair(cache: Path, avcil_cache: Run) -> None:
    code, out, _ = avcil_cache("verify", cache)
    assert code == 0 and "10 rows" in out and "GB/s): 0 bad" in out
    damage(cache)
    code, out, _ = avcil_cache("verify", cache)
    assert code == 1 and "bad: train-000-0002 (shard-00000.h5, row 2)" in out and "--repair" in out
    code, out, _ = avcil_cache("verify", cache, "--repair", "--json")
    assert code == 1 and [one["id"] for one in json.loads(out)["bad"]] == ["train-000-0002"]
    assert avcil_cache("verify", cache)[0] == 0
    assert "2 of 3" in avcil_cache("info", cache)[1]


def test_export_and_relabel(cache: Path, tmp_path: Path, avcil_cache: Run) -> None:
    code, out, _ = avcil_cache("export", cache, "--out", tmp_path / "files", "--to", "npy")
    assert code == 0 and "10 clips" in out and (tmp_path / "files/val-audio.npy").exists()
    (tmp_path / "t.csv").write_text("id,label\nval-000-0000,cat\n")
    assert avcil_cache("relabel", cache, tmp_path / "t.csv")[1].startswith("1 clips changed")
    assert "cat" in avcil_cache("info", cache)[1]


@pytest.mark.parametrize("command", ["info", "verify", "export", "relabel"])
def test_bad_input_is_one_line_and_code_2(command: str, tmp_path: Path, avcil_cache: Run) -> None:
    more = {"export": ("--out", tmp_path / "x"), "relabel": (tmp_path / "t.csv",)}.get(command, ())
    code, _, err = avcil_cache(command, tmp_path / "nowhere", *more)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert "nowhere" in err and not (tmp_path / "nowhere").exists()
