"""Labels and splits change by the command that keeps the checksums of the manifest, and in no other way."""

from pathlib import Path

import pytest

from avcil.cache import CacheClip, SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache.operations.relabel import relabel
from avcil.errors import CacheError

SPEC = SyntheticSpec(classes=2, train=2, val=1, test=1, time=1, space=2, width=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_synthetic_cache(tmp_path / "c", SPEC)
    return tmp_path / "c"


def test_listed_columns_of_listed_clips_change(path: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("note,id,label\nx,val-000-0000,cat\ny,val-001-0000,class-001\n")
    before = TokenCache(path)
    assert relabel(path, tmp_path / "t.csv") == 1
    after = TokenCache(path)
    changed = [clip for clip in after.clips if clip not in before.clips]
    assert changed == [CacheClip("val-000-0000", "cat", "val")]
    assert [clip.id for clip in after.clips] == [clip.id for clip in before.clips]
    assert after.fingerprint != before.fingerprint


def test_an_edited_manifest_is_refused_until_it_is_handed_over(path: Path) -> None:
    manifest = path / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("class-001", "dog"))
    with pytest.raises(CacheError, match=r"manifest\.csv does not match.* record 3 on.*avcil cache relabel"):
        TokenCache(path)
    assert relabel(path, manifest) == 8
    assert {clip.label for clip in TokenCache(path).clips} == {"class-000", "dog"}


def test_a_damaged_manifest_is_made_anew_from_a_whole_list_only(path: Path, tmp_path: Path) -> None:
    clips = TokenCache(path).clips
    (path / "manifest.csv").write_bytes(b"\xff")
    table = tmp_path / "t.csv"
    lines = ["id,label,split", *(f"{clip.id},{clip.label},{clip.split}" for clip in clips)]
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(CacheError, match=r"must list all clips, 'test-001-0000' is missing.*damaged"):
        relabel(path, table)
    table.write_text("\n".join(lines))
    assert relabel(path, table) == 8 and TokenCache(path).clips == clips


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must name id"),
        ("id,other\n", "the first line must name id"),
        ("id,label\nnobody,x\n", "record 1: clip 'nobody' is not in"),
        ("id,split\nval-000-0000,Test\n", "record 1: .*'Test' is not one of"),
        ("id,label\nval-000-0000,a\nval-000-0000,b\n", "record 2: .*twice"),
        ("id,label\nval-000-0000\n", "record 1: it has more or fewer fields"),
        ("id,label\nval-000-0000,swimming, indoors\n", "record 1: it has more or fewer fields"),
        ('id,label\n"', "not a CSV file in UTF-8"),
    ],
)
def test_bad_tables_are_refused_and_change_nothing(
    path: Path, tmp_path: Path, text: str, message: str
) -> None:
    before = (path / "manifest.csv").read_bytes()
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CacheError, match=message):
        relabel(path, tmp_path / "t.csv")
    assert (path / "manifest.csv").read_bytes() == before
