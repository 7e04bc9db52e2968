"""Weights by name, from a hub cache on disk; nothing here touches the network."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from support.weight_files import AUDIO, VIDEO, audiomae_state, videomae_folder

from avcil.errors import EncoderError
from avcil.extract.encoders.audiomae import audiomae
from avcil.extract.encoders.hub import PINNED, Located, locate
from avcil.extract.encoders.videomae import videomae

OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache as huggingface_hub lays it out, in offline mode."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def snapshot(cache: Path, repository: str, commit: str, *, is_main: bool) -> Path:
    repo = cache / f"models--{repository.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "snapshots" / commit).mkdir(parents=True)
    if is_main:
        (repo / "refs" / "main").write_text(commit)
    return repo / "snapshots" / commit


def test_a_name_is_found_in_the_cache_at_the_revision_asked_for(cache: Path) -> None:
    videomae_folder(snapshot(cache, "me/tiny", OLD, is_main=False), layer_norm_eps=1e-5)
    videomae_folder(snapshot(cache, "me/tiny", NEW, is_main=True))
    newest = videomae(VIDEO, "me/tiny")
    older = videomae(VIDEO, f"me/tiny@{OLD}")
    assert (newest.info.weights.repository, newest.info.weights.commit) == ("me/tiny", NEW)
    assert str(older.info.weights) == f"VideoMAE, Hugging Face folder {OLD}, from me/tiny@{OLD}"
    assert newest.info.fingerprint != older.info.fingerprint
    assert newest.info.weights.sha256 == older.info.weights.sha256


def test_audio_weights_need_no_config(cache: Path) -> None:
    name = "me/vit_base_patch16_1024_128.audiomae_as2m"
    save_file(audiomae_state_of_timm(), snapshot(cache, name, NEW, is_main=True) / "model.safetensors")
    weights = audiomae(AUDIO, name).info.weights
    assert weights.kind == "hub" and str(weights) == f"AudioMAE folder {NEW}, from {name}@{NEW}"


def audiomae_state_of_timm() -> dict[str, Any]:
    state = audiomae_state()
    return {key: value for key, value in state.items() if not key.startswith(("mask", "decoder"))}


def test_a_pinned_name_is_the_pinned_commit(cache: Path) -> None:
    name, commit = next(iter(PINNED.items()))
    videomae_folder(snapshot(cache, name, NEW, is_main=True))
    videomae_folder(snapshot(cache, name, commit, is_main=False))
    located = locate(name, with_config=True)
    assert (located.repository, located.commit) == (name, commit)


def test_offline_and_not_in_the_cache_is_one_clear_line(cache: Path) -> None:
    with pytest.raises(EncoderError, match=r"^me/tiny@v2: there is no such file or folder here, and the Hug"):
        locate("me/tiny@v2", with_config=True)
    folder = snapshot(cache, "me/tiny", NEW, is_main=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="LocalEntryNotFoundError"):
        locate("me/tiny", with_config=True)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EncoderError, match=r"me/tiny: .*needs huggingface_hub .*extra `hub`"):
        locate("me/tiny", with_config=True)


@pytest.mark.parametrize("path", ["nowhere.pth", "weights/nowhere.pth", "a/b/c", "/abs/folder", "./folder"])
def test_paths_are_no_names(path: str) -> None:
    assert locate(path, with_config=True).path == Path(path)


def test_a_folder_that_exists_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me/tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("me/tiny", with_config=True) == Located(Path("me/tiny"))
