"""Files are found under the names that lists give them, in any form of the same letters."""

import unicodedata
from pathlib import Path

import pytest

from avcil.extract.sources.file_names import FileNames
from avcil.extract.sources.manifest import SourceOptions, read_manifest

NAME = "\u00e9t\u00e9 \uac00.mp4"
FORMS = ("NFC", "NFD")


@pytest.mark.parametrize("on_disk", FORMS)
@pytest.mark.parametrize("asked", FORMS)
def test_other_forms_of_the_same_letters(on_disk: str, asked: str, tmp_path: Path) -> None:
    name, folder = (unicodedata.normalize(on_disk, text) for text in (NAME, "caf\u00e9"))  # type: ignore[arg-type]
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).touch()
    wanted = unicodedata.normalize(asked, f"caf\u00e9/{NAME}")  # type: ignore[arg-type]
    assert FileNames().meant(tmp_path / wanted) == tmp_path / folder / name


def test_a_name_as_it_is_comes_first(tmp_path: Path) -> None:
    for form in FORMS:
        (tmp_path / unicodedata.normalize(form, NAME)).touch()  # type: ignore[arg-type]
    for form in FORMS:
        path = tmp_path / unicodedata.normalize(form, NAME)  # type: ignore[arg-type]
        assert FileNames().meant(path) == path


@pytest.mark.parametrize("name", ["none.mp4", "a\0b", "x" * 300, "none/none/none.mp4"])
def test_what_is_not_there_stays_as_it_is(name: str, tmp_path: Path) -> None:
    assert FileNames().meant(tmp_path / name) == tmp_path / name


@pytest.mark.parametrize("text", ["C:\\1.mp4", "https://example.invalid/1.mp4", "a\\b.mp4", "~/x.mp4"])
def test_a_file_that_is_called_so_is_meant(text: str, tmp_path: Path) -> None:
    (tmp_path / text).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / text).touch()
    assert FileNames().listed(text, tmp_path, "here") == tmp_path / text


def test_home_and_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b.mp4").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("~/a b.mp4", f"file://{tmp_path}/a%20b.mp4"):
        assert FileNames().listed(text, Path("nowhere"), "here") == tmp_path / "a b.mp4"


def test_videos_of_a_list_in_the_other_form(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "caf\u00e9")).mkdir()
    (tmp_path / unicodedata.normalize("NFD", "caf\u00e9/\u00e91.mp4")).touch()
    (tmp_path / "ids.txt").write_text("\u00e91\n", encoding="utf-8")
    manifest = read_manifest(tmp_path / "ids.txt", SourceOptions("kinetics"))
    assert not manifest.missing and manifest.clips[0].label == "caf\u00e9"
