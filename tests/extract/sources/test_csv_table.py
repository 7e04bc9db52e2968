"""CSVs as spreadsheets and programs write them are read as they are meant, or refused in one line."""

from pathlib import Path

import pytest

from avcil.errors import ManifestError
from avcil.extract.sources.clip import Clip
from avcil.extract.sources.manifest import SourceOptions, read_manifest

HEADER = "id,path,label,split\n"
ROWS = "a,videos/1.mp4,cat,train\nb,videos/2.mp4,dog,val\n"
PLAIN = HEADER + ROWS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for number in (1, 2):
        (tmp_path / "videos" / f"{number}.mp4").touch()
    return tmp_path


def read(folder: Path, text: str | bytes) -> tuple[Clip, ...]:
    (folder / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    manifest = read_manifest(folder / "list.csv", SourceOptions())
    assert manifest.format == "csv" and not manifest.missing
    return manifest.clips


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("id,path,label,split", "ID,Path,LABEL,Split"),
        PLAIN.replace("cat", "cat ").replace("1.mp4", "1.mp4 "),
        PLAIN.replace("cat", "\u200bcat\ufeff"),
        PLAIN.replace("train", "Train").replace("val", "validation"),
        PLAIN.replace("train", "training").replace("val", "VALID"),
        PLAIN.replace("videos/", "videos\\"),
        PLAIN.replace("videos/", ".\\videos\\"),
        PLAIN.replace("a,videos/1.mp4,cat", '"a","videos/1.mp4","cat"'),
        HEADER + ROWS.replace("train\n", "train,\n"),
        PLAIN + ",,,\n,,,\n\n",
        "# made on Monday\n" + PLAIN,
        "#made on Monday\n\n" + HEADER + "# the first half\n" + ROWS + "#end\n",
        "sep=,\n" + PLAIN,
        "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
        "\ufeff" + '"sep=;"\n' + PLAIN.replace(",", ";"),
        ",id,path,label,split\n0,a,videos/1.mp4,cat,train\n1,b,videos/2.mp4,dog,val\n",
        PLAIN.encode("utf-8-sig"),
        "\ufeff\ufeff" + PLAIN,
        PLAIN.replace(",", "\t").encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-32"),
    ],
)
def test_the_same_clips_however_they_are_written(text: str | bytes, folder: Path) -> None:
    assert read(folder, text) == (
        Clip("a", folder / "videos/1.mp4", "cat", "train"),
        Clip("b", folder / "videos/2.mp4", "dog", "val"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,path,label,split,Label\na,videos/1.mp4,cat,train,dog\n",
            "line 1: column label stands there twice",
        ),
        (HEADER + "a,https://example.invalid/1.mp4,cat,train\n", "line 2: path 'https://.*' is a URL"),
        (HEADER + "a,C:\\v\\1.mp4,cat,train\n", "line 2: path .* is of a Windows machine"),
        (HEADER + "a,\\\\server\\v\\1.mp4,cat,train\n", "line 2: path .* is of a Windows machine"),
        ("id;path;label\na;videos/1.mp4;cat\n", "line 1: no column split"),
        ("sep=;\n" + PLAIN, "line 2: no column id, path, label, split"),
        (PLAIN.replace("dog", "ca\u200bt"), r"labels 'cat' and 'ca\\u200bt' look the same"),
        (PLAIN.replace("dog", "cat\u00a0x").replace("cat,", "cat x,"), "look the same"),
        (PLAIN.replace("cat", "\u200b"), "line 2: label '\\\\u200b': it is empty"),
        (PLAIN.encode("utf-16")[:-1], "not UTF-8"),
        (PLAIN.replace("cat", "caf\u00e9").encode("latin-1"), "line 2: not UTF-8"),
    ],
)
def test_what_is_not_certain_is_one_line(text: str | bytes, message: str, folder: Path) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        read(folder, text)
    assert "\n" not in str(caught.value)


def test_letters_of_two_parts_and_of_one_are_one_class(folder: Path) -> None:
    clips = read(folder, PLAIN.replace("cat", "caf\u00e9").replace("dog", "cafe\u0301"))
    assert [clip.label for clip in clips] == ["caf\u00e9", "caf\u00e9"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_published_lists_saved_by_a_spreadsheet(separator: str, folder: Path) -> None:
    for name, text, format in (
        ("vggsound.csv", "-aaaaaaaaa1,30,a cat,train\n", "vggsound"),
        ("train.csv", "label,youtube_id,time_start,time_end\na cat,-aaaaaaaaa1,30,40\n", "kinetics"),
        ("ids.txt", "-aaaaaaaaa1_000030_000040,a cat,train\n", "kinetics"),
    ):
        (folder / "videos" / "-aaaaaaaaa1_000030_000040.mp4").touch()
        (folder / name).write_bytes(text.replace(",", separator).encode("utf-16"))
        manifest = read_manifest(folder / name, SourceOptions())
        assert manifest.format == format and not manifest.missing
        assert [(clip.label, clip.split) for clip in manifest.clips] == [("a cat", "train")]
