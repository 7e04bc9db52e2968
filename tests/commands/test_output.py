"""Outputs that cannot hold a letter show it by others, and no command ends with a traceback."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from support.command_line import avcil

from avcil import cli
from avcil.cache import TokenCache
from avcil.cache.folder import write_manifest
from avcil.cache.synthetic import SyntheticSpec, write_synthetic_cache

LABELS = {"class-000": "caf\u00e9 \u00b1\u2026", "class-001": "\u732b \U0001f3ba"}
QUICK = ("--method", "finetune", "--steps", "2", "--epochs", "1")
SHOWN = {  # of the labels, by encoding
    "ascii": ("caf\\u00e9 +-...", "\\u732b \\ud83c\\udfba"),
    "latin-1": ("caf\u00e9 \u00b1...", "\\u732b \\ud83c\\udfba"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose labels no encoding but Unicode's holds, and a run on it."""
    path = tmp_path_factory.mktemp("letters")
    write_synthetic_cache(path / "cache", SyntheticSpec(classes=2, train=3, val=2, test=2))
    clips = TokenCache(path / "cache").clips
    write_manifest(path / "cache", [replace(clip, label=LABELS[clip.label]) for clip in clips])
    trained = avcil("train", path / "cache", "--out", path / "run", *QUICK)
    assert trained.code == 0, trained.err
    return path


def printed(encoding: str, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of a command where standard output and error have an encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2)]
    with (
        mock.patch.object(sys, "argv", ["avcil", *map(str, arguments)]),
        mock.patch.multiple(sys, stdout=streams[0], stderr=streams[1]),
        pytest.raises(SystemExit) as left,
    ):
        cli.main()
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    code = left.value.code
    return code if isinstance(code, int) else 0, "".join(texts)


@pytest.mark.parametrize("encoding", SHOWN)
def test_every_command_prints_every_letter(encoding: str, folder: Path, tmp_path: Path) -> None:
    cache, run = folder / "cache", folder / "run"
    first, second = SHOWN[encoding]
    for command in (("cache", "info", cache), ("eval", run), ("eval", run, "--csv")):
        code, text = printed(encoding, *command)
        assert code == 0 and second in text, text
    assert first in printed(encoding, "eval", run, "--csv")[1]
    for command in (("compare", run), ("compare", run, "--markdown"), ("eval", run, "--latex")):
        assert printed(encoding, *command)[0] == 0
    for command in (("train", cache, "--out", tmp_path / "\u732b", *QUICK), ("train", "--help")):
        assert printed(encoding, *command)[0] == 0
    code, text = printed(encoding, "extract", tmp_path / "\u732bs", "--out", tmp_path / "c")
    assert code == 2 and "\\u732bs: no such file or folder" in text


@pytest.mark.parametrize("encoding", SHOWN)
def test_json_keeps_every_letter(encoding: str, folder: Path) -> None:
    info = json.loads(printed(encoding, "cache", "info", folder / "cache", "--json")[1])
    assert set(info["classes"]) == set(LABELS.values())
    evaluated = json.loads(printed(encoding, "eval", folder / "run", "--json")[1])
    assert set(evaluated["classes"]) == set(LABELS.values())
    assert json.loads(printed(encoding, "compare", folder / "run", "--json")[1])["comparisons"]
