"""The example fills a cache, goes on where it was stopped, and the cache can be trained on."""

import importlib.util
import sys
from pathlib import Path

import pytest

import avcil
from avcil import cli
from avcil.cache import TokenCache
from avcil.cache.operations.verify import verify

EXAMPLE = Path(avcil.__file__).parent / "examples/fill_a_cache.py"


def test_the_example_fills_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("fill_a_cache", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(tmp_path / "cache")
    before = TokenCache(tmp_path / "cache").fingerprint
    example.main(tmp_path / "cache")
    cache = TokenCache(tmp_path / "cache")
    assert cache.fingerprint == before and len(cache.present()) == 96 and verify(cache).bad == ()
    train = [
        "train",
        tmp_path / "cache",
        "--out",
        tmp_path / "run",
        "--steps",
        2,
        "--epochs",
        1,
        "--memory",
        16,
    ]
    monkeypatch.setattr(sys, "argv", ["avcil", *map(str, train)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
