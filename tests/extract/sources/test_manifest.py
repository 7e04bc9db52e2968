"""Sources of clips: CSV files and folders."""

import subprocess
import sys
from pathlib import Path

import pytest

from avcil.errors import ManifestError
from avcil.extract.sources.manifest import Clip, read_source
from avcil.extract.sources.splits import SplitRule

RULE = SplitRule.parse("2/1/1")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def csv_file(folder: Path, text: str) -> Path:
    touch(folder, "a.mp4")
    (folder / "clips.csv").write_bytes(text.encode())
    return folder / "clips.csv"


def test_csv_with_mark_unicode_quotes_and_newlines(tmp_path: Path) -> None:
    header = "\ufeffid,path,label,split,start_s,end_s,note\r\n"
    text = header + '"🎺\n""x""",a.mp4,"ré, mi",train,1.5,3,n\r\nb,no.mp4,l,test,,,\r\n'
    assert read_source(csv_file(tmp_path, text), split=RULE) == [
        Clip('🎺\n"x"', tmp_path / "a.mp4", "ré, mi", "train", 1.5, 3.0),
        Clip("b", tmp_path / "no.mp4", "l", "test"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column id, path, label, split"),
        ("id,path,label\n", "line 1: no column split"),
        ("id,path,label,split\n", "no clips in it"),
        ("id,path,label,split\na,a.mp4,l,tran\n", "line 2: split is 'tran'; it must be train, val or test"),
        (
            "id,path,label,split\na,a.mp4,l,train\na,a.mp4,l,train\n",
            "line 3: id 'a' stands already in line 2",
        ),
        ("id,path,label,split\n ,a.mp4,l,train\n", "line 2: id is empty"),
        ("id,path,label,split\na,a.mp4\n", "line 2: label is empty"),
        ("id,path,label,split\na,a.mp4,l,train,x\n", "line 2: more fields than columns"),
        ("id,path,label,split,start_s\na,a.mp4,l,train,x\n", "line 2: start_s is 'x'; it must be a number"),
        ("id,path,label,split,end_s\na,a.mp4,l,train,nan\n", "line 2: end_s is 'nan'"),
        ("id,path,label,split,start_s\na,a.mp4,l,train,-1\n", "line 2: start_s is '-1'"),
        ("id,path,label,split,start_s,end_s\na,a.mp4,l,train,2,2\n", "end_s is 2, not after start_s"),
        ("id,path,label,split,end_s\na,a.mp4,l,train,0\n", "end_s is 0, not after start_s"),
        ('id,path,label,split\n"a,a.mp4,l,train\n', "not a readable CSV"),
        ("id,path,label,split\na,b.mp4,l,train\n", "none of its 1 clips exists"),
    ],
)
def test_bad_csv_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_source(csv_file(tmp_path, text), split=RULE)
    assert message in str(caught.value)
    assert "clips.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"id,path,label,split\n\xff\xfe,a,b,train\n")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_source(tmp_path / "x.csv", split=RULE)


def test_class_folders_are_split_by_the_rule(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{i}.mp4" for label in "ab" for i in range(4)), "a/.hidden.mp4", "b/notes.txt")
    clips = read_source(tmp_path, split=RULE)
    assert [clip.id for clip in clips] == [f"{label}/{i}" for label in "ab" for i in range(4)]
    assert sorted(clip.split for clip in clips if clip.label == "a") == ["test", "train", "train", "val"]


def test_split_folders_keep_their_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/x.mp4", "test/a/x.mp4", "val/b/y.MKV")
    found = {clip.id: (clip.label, clip.split) for clip in read_source(tmp_path, split=RULE)}
    assert found == {"train/a/x.mp4": ("a", "train"), "b/y": ("b", "val"), "test/a/x.mp4": ("a", "test")}


def test_ids_become_unique_by_their_endings(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.mp4", "a/x.webm", "a/y.mp4", "a/z.mp4")
    ids = {clip.id for clip in read_source(tmp_path, split=RULE)}
    assert ids == {"a/x.mp4", "a/x.webm", "a/y", "a/z"}


@pytest.mark.parametrize("names", [(), ("x.txt",), ("a/notes.txt",), ("__MACOSX/a/._x.mp4",)])
def test_a_folder_without_clips(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ManifestError, match="no clips in it; expected <class>/<clip>"):
        read_source(tmp_path, split=RULE)


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file or folder"):
        read_source(tmp_path / "nowhere", split=RULE)


def test_reading_a_manifest_loads_no_torch() -> None:
    heavy = "{'torch', 'av', 'decord', 'numpy'}"
    code = f"import sys, avcil.extract.sources.manifest; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_folder_of_clips_is_one_class(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.webm", "only-sound.mp3", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    clips = read_source(tmp_path, split=SplitRule.parse("1/1/1"))
    assert [(clip.id, clip.label) for clip in clips] == [
        (f"{tmp_path.name}/{stem}", tmp_path.name) for stem in ("a", "b", "only-sound")
    ]
    assert sorted(clip.split for clip in clips) == ["test", "train", "val"]
