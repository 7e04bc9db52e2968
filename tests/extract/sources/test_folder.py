"""Folders as people have them: nothing in them is lost without a word."""

import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from avcil.errors import ManifestError
from avcil.extract.sources.manifest import Manifest, SourceOptions, read_manifest
from avcil.extract.sources.splits import SplitRule

TRAIN = SplitRule.parse("1/0/0")


def read(root: Path, names: Sequence[str], rule: SplitRule = TRAIN) -> Manifest:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return read_manifest(root, SourceOptions(split=rule))


def classes(manifest: Manifest) -> dict[str, str]:
    return {clip.id: f"{clip.label} {clip.split}" for clip in manifest.clips}


SPLITS = {"cat/1": "cat train", "cat/2": "cat val", "dog/3": "dog test"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train/cat/1.mp4", "val/cat/2.mp4", "test/dog/3.mp4"), SPLITS),
        (("Train/cat/1.mp4", "VAL/cat/2.mp4", "Test/dog/3.mp4"), SPLITS),
        (("training/cat/1.mp4", "validation/cat/2.mp4", "testing/dog/3.mp4"), SPLITS),
        (("data/set/train/cat/1.mp4", "data/set/valid/cat/2.mp4", "data/set/test/dog/3.mp4"), SPLITS),
        (("cat/train/1.mp4", "cat/val/2.mp4", "dog/test/3.mp4"), SPLITS),
        (("train/cat/one/1.mp4",), {"cat/one/1": "cat train"}),
        (("cat/a/1.mp4", "dog/b/c/1.mp4"), {"cat/a/1": "cat train", "dog/b/c/1": "dog train"}),
        (("cat/1.mp4", "__MACOSX/cat/._1.mp4"), {"cat/1": "cat train"}),
        (("cat/1.mp4", "cat/@eaDir/1.mp4/x.jpg", "cat/._1.mp4", "cat/Thumbs.db"), {"cat/1": "cat train"}),
    ],
)
def test_layouts_that_say_everything(names: Sequence[str], expected: dict[str, str], tmp_path: Path) -> None:
    manifest = read(tmp_path, names)
    assert classes(manifest) == expected and manifest.notes == ()


@pytest.mark.parametrize(
    ("names", "ids", "note"),
    [
        (("cat/1.mp4", "2.mp4", "3.mp4"), {"cat/1"}, "they lie in no class folder: 2 (2.mp4, 3.mp4)"),
        (
            ("train/cat/1.mp4", "test/cat/2.mp4", "extra/3.mp4", "train/4.mp4"),
            {"cat/1", "cat/2"},
            "in no class folder of a split: 2 (extra/3.mp4, train/4.mp4)",
        ),
        (("cat/1.mp4", "cat/a.xyz", "b.xyz", "cat/c"), {"cat/1"}, "their endings: 3 (2 .xyz, 1 without one)"),
        (("cat/1.mp4", "dog/a.xyz"), {"cat/1"}, "folders without clips: 1 (dog)"),
        (("test/1.mp4", "tennis/2.mp4"), {"test/1", "tennis/2"}, "test beside other folders is taken for"),
        (("data/cat/1.mp4", "data/dog/2.mp4"), {"data/cat/1", "data/dog/2"}, "all clips are one class, data"),
        (("cat/1.mp4", "cat/2.mp4"), None, "left out beyond the counts of the split: 1"),
    ],
)
def test_what_is_left_out_or_may_surprise_is_said(
    names: Sequence[str], ids: set[str] | None, note: str, tmp_path: Path
) -> None:
    manifest = read(tmp_path, names, SplitRule() if ids else TRAIN)
    assert ids is None or set(classes(manifest)) == ids
    assert any(note in line for line in manifest.notes), manifest.notes


def test_folders_of_splits_without_class_folders(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no class folders in test, train"):
        read(tmp_path, ("train/1.mp4", "test/2.mp4"))


def test_folders_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    accented = "caf\u00e9"
    names = (f"{accented}/1.mp4", f"{unicodedata.normalize('NFD', accented)}/1.mp4", f"{accented} /1.mp4")
    manifest = read(tmp_path, names, SplitRule())
    assert {clip.label for clip in manifest.clips} == {accented}
    assert len({clip.id for clip in manifest.clips}) == 3


def test_labels_that_differ_by_what_cannot_be_seen(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"labels 'cat' and 'ca\\u200bt' look the same"):
        read(tmp_path, ("cat/1.mp4", "ca\u200bt/1.mp4"))


def test_a_link_is_followed_but_in_no_circle(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "kitten").symlink_to(tmp_path / "cat")
    assert set(classes(read(tmp_path, ("cat/1.mp4",)))) == {"cat/1", "kitten/1"}


def test_thousands_of_clips_are_listed_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(5_000):
        (tmp_path / "cat" / f"{number}.mp4").touch()
    began_s = time.monotonic()
    manifest = read(tmp_path, (), SplitRule())
    assert len(manifest.clips) == 5_000
    assert time.monotonic() - began_s < 10  # half a second on an idle core
