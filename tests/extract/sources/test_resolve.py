"""Published lists of AVE, VGGSound and Kinetics, and finding their videos under the usual names."""

import subprocess
import sys
from pathlib import Path

import pytest

from avcil.errors import ManifestError
from avcil.extract.sources.manifest import (
    ClassCoverage,
    Format,
    Manifest,
    SourceOptions,
    detect,
    read_manifest,
)
from avcil.extract.sources.splits import SplitRule

A, B, C = "-aaaaaaaaa1", "b_b_b_b_b_2", "c-c-c-c-c_3"  # 11 characters, as YouTube's
AVE = (
    "Category&VideoID&Quality&StartTime&EndTime\r\n"
    f"Male speech, man speaking&{A}&good&0&10\r\n"
    f"Bark & growl&{A}&good&3&3\r\n\r\n"
    f"Bark & growl&{B}&good&0&9\r\nBark & growl&{B}&good&9&10\r\n"
)
VGGSOUND = f'{A},30,"donkey, ass braying",train\n{A},40,zebra,test\n{B},0,zebra,train\n'
KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    f'"playing drums",{A},10,20,train,0\nbowling,{B},5,15,validate,0\nbowling,{C},0,10,test,1\n'
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listing(folder: Path, name: str, text: str | bytes) -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def rows(manifest: Manifest) -> list[tuple[str, str, str]]:
    return [(clip.id, clip.label, clip.split) for clip in manifest.clips]


def paths(manifest: Manifest, root: Path) -> list[str | None]:
    return [
        None if clip in manifest.missing else clip.path.relative_to(root).as_posix()
        for clip in manifest.clips
    ]


def read(source: Path, **options: object) -> Manifest:
    return read_manifest(source, SourceOptions(**options))  # type: ignore[arg-type]


# AVE


def test_ave_folder_with_sets(tmp_path: Path) -> None:
    touch(tmp_path, f"AVE/{A}.mp4")
    for name, text in (
        ("trainSet", AVE.split("\r\n", 1)[1]),
        ("valSet", ""),
        ("testSet", f"Bark & growl&{C}&good&0&1"),
    ):
        listing(tmp_path, f"{name}.txt", text)
    manifest = read(tmp_path)
    assert manifest.format == "ave"
    assert rows(manifest) == [
        (f"Male speech, man speaking/{A}", "Male speech, man speaking", "train"),
        (f"Bark & growl/{A}", "Bark & growl", "train"),
        (B, "Bark & growl", "train"),
        (C, "Bark & growl", "test"),
    ]
    assert paths(manifest, tmp_path) == [f"AVE/{A}.mp4", f"AVE/{A}.mp4", None, None]
    assert manifest.coverage() == [
        ClassCoverage("Bark & growl", 3, 1),
        ClassCoverage("Male speech, man speaking", 1, 1),
    ]


def test_ave_annotations_are_split_by_the_rule(tmp_path: Path) -> None:
    ids = [f"{i:011d}" for i in range(8)]
    touch(tmp_path, *(f"{id}.mp4" for id in ids[:4]))
    text = "".join(f"Bell&{id}&good&0&10\n" for id in ids)
    manifest = read(listing(tmp_path, "Annotations.txt", text), split=SplitRule.parse("4/2/2"))
    assert sorted(split for _, _, split in rows(manifest)) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    touch(tmp_path, *(f"{id}.mp4" for id in ids))
    assert rows(read(tmp_path, split=SplitRule.parse("4/2/2"))) == rows(manifest)  # whatever is there


def test_one_ave_set_alone(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.mp4")
    manifest = read(listing(tmp_path, "testSet.txt", f"Bell&{A}&good&0&10"))
    assert rows(manifest) == [(A, "Bell", "test")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("Annotations.txt", f"Bell&{A}&good&0", "line 1: 4 fields; expected Category&VideoID"),
        ("Annotations.txt", f"\nBell&{A}&good&0&x", "line 2: EndTime is 'x'"),
        ("Annotations.txt", f"&{A}&good&0&1", "line 1: label '': it is empty"),
        ("Annotations.txt", "Bell&a/b&good&0&1", "line 1: id 'a/b': it cannot be a file's name"),
        ("Annotations.txt", "Bell&" + "a" * 300 + "&good&0&1", "it cannot be a file's name"),
        ("Annotations.txt", b"Bell&a&good&0&1\n\xff", "line 2: not UTF-8"),
        ("Annotations.txt", "", "no clips in it; read as ave"),
        ("trainSet.txt", "", "no valset.txt beside the other sets"),
        ("Annotations.txt", f"Bell&{B}&good&0&1", "none of its 1 clips exists"),
    ],
)
def test_bad_ave(name: str, text: str | bytes, words: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.mp4")
    listing(tmp_path, name, text)
    with pytest.raises(ManifestError) as caught:
        read(tmp_path)
    assert words in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


# VGGSound


@pytest.mark.parametrize(
    "files",
    [
        (f"{A}_000030.mp4", f"{A}_000040.mp4", f"{B}_000000.mp4"),
        (f"{A}_000030_000040.mp4", f"{A}_000040_000050.mp4", f"{B}_000000_000010.mp4"),
        (f"train/{A}_30_40.webm", f"test/{A}_40_50.mkv", f"train/{B}_0_10.MP4"),
        (f"{A}_30000_40000.mp4", f"{A}_40000_50000.mp4", f"x/y/{B}.mp4"),
    ],
)
def test_vggsound_names(files: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *files, f"{A}.mp4", f"{A}_000031.mp4")
    manifest = read(listing(tmp_path, "vggsound.csv", VGGSOUND))
    assert manifest.format == "vggsound"
    assert rows(manifest) == [
        (f"{A}_000030", "donkey, ass braying", "train"),
        (f"{A}_000040", "zebra", "test"),
        (f"{B}_000000", "zebra", "train"),
    ]
    assert paths(manifest, tmp_path) == list(files)


def test_a_whole_video_is_not_taken_for_two_clips(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.mp4", f"{B}.mp4")
    manifest = read(listing(tmp_path, "vggsound.csv", VGGSOUND))
    assert paths(manifest, tmp_path) == [None, None, f"{B}.mp4"]
    assert [clip.path.name for clip in manifest.missing] == [f"{A}_000030.mp4", f"{A}_000040.mp4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{A},30,donkey, ass braying,train\n", "line 1: 5 fields; expected youtube_id,start_seconds"),
        (f"{A},30,x,train\n{A},soon,x,train\n", "line 2: start_seconds is 'soon'"),
        (f"{A},-1,x,train\n", "start_seconds is '-1'"),
        (f"{A},30,x,dev\n", "line 1: split is 'dev'; it must be train, val"),
        (f'{A},30,"x,train\n', "line 1: unexpected end of data; quote"),
    ],
)
def test_bad_vggsound(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read(listing(tmp_path, "x.csv", text), format="vggsound")
    assert words in str(caught.value) and "\n" not in str(caught.value)


# Kinetics-Sounds


def test_kinetics_csv_with_class_folders_or_flat(tmp_path: Path) -> None:
    source = listing(tmp_path, "ks.csv", KINETICS)
    names = [f"{A}_000010_000020.mp4", f"{B}_000005_000015.mp4", f"{C}_000000_000010.mp4"]
    for number, folders in enumerate((["playing drums", "bowling", "bowling"], [".", ".", "."])):
        files = [f"{folder}/{name}".removeprefix("./") for folder, name in zip(folders, names, strict=True)]
        root = touch(tmp_path / str(number), *files)
        manifest = read(source, videos=root)
        assert manifest.format == "kinetics"
        assert rows(manifest) == [
            (f"{A}_000010_000020", "playing drums", "train"),
            (f"{B}_000005_000015", "bowling", "val"),
            (f"{C}_000000_000010", "bowling", "test"),
        ]
        assert paths(manifest, root) == files


def test_kinetics_ids_take_their_class_from_the_folders(tmp_path: Path) -> None:
    touch(tmp_path, f"train/é (1)/{A}_000010_000020.mp4", f"val/bowling/{B}_000005_000015.mp4")
    text = f"# two and one lost\n{A}_000010_000020\nbowling/{B}_000005_000015.mp4\n{C}_000000_000010\n"
    manifest = read(listing(tmp_path, "ks.txt", text))
    assert rows(manifest) == [
        (f"{A}_000010_000020", "é (1)", "train"),
        (f"{B}_000005_000015", "bowling", "val"),
    ]
    assert manifest.unresolved == (f"{C}_000000_000010",)


def test_kinetics_ids_with_class_and_split(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_000010_000020.mp4")
    text = f'{A}_000010_000020,"a, b",test\n{B},"a, b",train\n'
    manifest = read(listing(tmp_path, "ks.txt", text))
    assert rows(manifest) == [(f"{A}_000010_000020", "a, b", "test"), (B, "a, b", "train")]
    assert [clip.id for clip in manifest.missing] == [B]


def test_kinetics_lists_by_split(tmp_path: Path) -> None:
    touch(tmp_path, f"v/bowling/{A}_000010_000020.mp4", f"v/bowling/{B}_000010_000020.mp4")
    listing(tmp_path, "train.txt", f"{A}_000010_000020")
    listing(tmp_path, "validate.txt", f"{B}_000010_000020")
    assert rows(read(tmp_path, format="kinetics")) == [
        (f"{A}_000010_000020", "bowling", "train"),
        (f"{B}_000010_000020", "bowling", "val"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"youtube_id,time_start,time_end,split\n{A},1,11,test\n", "line 1: no column label"),
        ("label,youtube_id,time_start,time_end\nx,y\n", "line 2: 2 fields; the first line names 4"),
        (f"label,youtube_id,time_start,time_end\nx,{A},1,\n", "line 2: time_end is ''"),
        (f"{A}_000001_000011,a,b,c\n", "line 1: 4 fields; expected an id"),
        (f"{A}_000001_000011,a,b\n", "line 1: split is 'b'"),
        (f"{A}_000001_000011\n", "it lies in no class folder"),
    ],
)
def test_bad_kinetics(text: str, words: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_000001_000011.mp4")
    with pytest.raises(ManifestError) as caught:
        read(listing(tmp_path, "ks.csv", text))
    assert words in str(caught.value) and "\n" not in str(caught.value)


# All lists


def test_only_the_ids_of_a_list(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_000010_000020.mp4", f"{B}_000005_000015.mp4")
    source = listing(tmp_path, "ks.csv", KINETICS)
    only = listing(tmp_path, "only.txt", f"{A}\nbowling/{B}_000005_000015.mp4\nelsewhere__\n")
    manifest = read(source, only=only)
    assert [clip.id for clip in manifest.clips] == [f"{A}_000010_000020", f"{B}_000005_000015"]
    assert manifest.unresolved == ("elsewhere__",)
    with pytest.raises(ManifestError, match="it names none of the clips"):
        read(source, only=listing(tmp_path, "none.txt", "elsewhere__"))


def test_several_files_for_one_clip(tmp_path: Path) -> None:
    source = listing(tmp_path, "Annotations.txt", f"Bark_&{A}&good&0&1\n")
    touch(tmp_path, f"v/bark /{A}.mp4", f"v/Meow/{A}.mp4", f"v/{A}.webm")
    assert paths(read(source), tmp_path) == [f"v/bark /{A}.mp4"]
    touch(tmp_path, f"v/bark /{A}.mkv")
    with pytest.raises(ManifestError, match=r"has 2 files, v/bark /-aaaaaaaaa1.mkv and .*: move all but one"):
        read(source)


def test_folders_that_link_to_each_other(tmp_path: Path) -> None:
    touch(tmp_path, f"videos/{A}.mp4", f"videos/.hidden/{B}.mp4", f"videos/.{B}.mp4")
    (tmp_path / "videos" / "again").symlink_to(tmp_path / "videos")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "videos")
    source = listing(tmp_path / "here", "Annotations.txt", f"x&{A}&g&0&1\nx&{B}&g&0&1\n")
    assert paths(read(source), tmp_path / "here") == [f"linked/{A}.mp4", None]


def test_a_link_that_leads_nowhere_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.mp4")
    (tmp_path / f"{B}.mp4").symlink_to(tmp_path / "gone.mp4")
    assert paths(read(listing(tmp_path, "Annotations.txt", AVE)), tmp_path) == [f"{A}.mp4", f"{A}.mp4", None]


def test_odd_names_break_nothing(tmp_path: Path) -> None:
    labels = ['"', "[red]", "%s{}", "..", "a\tb", "#", "-", "a\u2028b", "🎺" * 40]
    touch(tmp_path, f"{A}.mp4")
    (tmp_path / b"\xff\xfe.mp4".decode("utf-8", "surrogateescape")).touch()
    ids = [A, "x y", "'", "*?[", "..", "%00", "é", "~", "a\\b"]
    text = "".join(f"{label}&{id}&g&0&1\n" for label, id in zip(labels, ids, strict=True))
    manifest = read(listing(tmp_path, "Annotations.txt", text))
    assert [clip.id for clip in manifest.clips] == ids
    assert [clip.label for clip in manifest.clips] == labels
    assert len(manifest.missing) == len(ids) - 1


# Formats


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("id,path,label,split\n", "csv"),
        ("\ufeffnote,split,label,path,id\n", "csv"),
        (AVE, "ave"),
        (AVE.split("\r\n", 1)[1], "ave"),
        (VGGSOUND, "vggsound"),
        (KINETICS, "kinetics"),
        (f"{A}_000001_000011\n", "kinetics"),
        (f"drums/{A}_000001_000011.mp4\n", "kinetics"),
        ("", "csv"),
        ("anything, else\n", "csv"),
        ('"\n', "csv"),
        ("a&b&c&d&e\n", "csv"),
    ],
)
def test_the_format_is_detected(text: str, format: Format, tmp_path: Path) -> None:
    assert detect(listing(tmp_path, "any.csv", text)) == format


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("all_classId_vid_dict.npy", "", "authors"),
        ("Annotations.txt", "", "ave"),
        ("trainSet.txt", "", "ave"),
        ("train.csv", KINETICS, "kinetics"),
        ("train.csv", "id,path,label,split\n", "folder"),
        ("readme.txt", AVE, "folder"),
    ],
)
def test_the_format_of_a_folder(name: str, text: str, format: Format, tmp_path: Path) -> None:
    touch(tmp_path, "cats/a.mp4")
    listing(tmp_path, name, text)
    assert detect(tmp_path) == format
    assert detect(tmp_path / "cats") == "folder"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "avi"}, "format is 'avi'; it must be one of auto, folder, csv"),
        ({"format": "csv"}, "--format csv expects a CSV file"),
        ({"format": "vggsound"}, "--format vggsound expects the CSV file"),
        ({"format": "authors"}, "all_classId_vid_dict.npy and"),
        ({"format": "ave"}, "neither trainSet.txt"),
        ({"format": "kinetics"}, "no train.csv, val.csv or test.csv"),
        ({"videos": Path("x")}, "--videos goes with a list or a CSV"),
        ({"only": Path("x")}, "--list goes with ave, vggsound, kinetics, authors"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], words: str, tmp_path: Path) -> None:
    touch(tmp_path, "cats/a.mp4")
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_no_folder_of_videos(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder of videos; name it with --videos"):
        read(listing(tmp_path, "a.csv", VGGSOUND), videos=tmp_path / "nowhere")


def test_paths_of_a_csv_in_another_folder(tmp_path: Path) -> None:
    touch(tmp_path, "v/a.mp4")
    source = listing(tmp_path, "a.csv", "id,path,label,split\na,a.mp4,x,train\nb," + "b" * 999 + ",x,train\n")
    manifest = read(source, videos=tmp_path / "v")
    assert [clip.id for clip in manifest.missing] == ["b"]


def test_reading_a_list_loads_no_torch(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.mp4")
    source = listing(tmp_path, "Annotations.txt", AVE)
    code = (
        "import sys, pathlib, avcil.extract.sources.manifest as m; "
        f"m.read_manifest(pathlib.Path({str(source)!r}), m.SourceOptions()); "
        "print({'torch', 'av', 'decord', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
