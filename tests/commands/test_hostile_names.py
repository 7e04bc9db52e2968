"""Names that try to break out of lines, quotes, tables and terminals go the whole way unharmed."""

import csv
import io
import json
import shutil
from pathlib import Path

from support.command_line import DEMO_ENCODERS, avcil
from support.small_demo import SmallDemo

from avcil.cache import TokenCache

HOSTILE = "<script>alert(\"1\")</script>, 'x'\n\u202egnp.\u200f 🎻[bold]\x1b[31m"
# A folder cannot be called so: a file's name has no slash.
NAME = HOSTILE.replace("/", "\u2215")
LABELS = (f"{NAME} one", f"{NAME} two")


def test_a_hostile_name_goes_the_whole_way(small_demo: SmallDemo, tmp_path: Path) -> None:
    videos = iter(sorted((small_demo.videos / "train").rglob("*.mp4")))
    for label in LABELS:
        (tmp_path / "videos" / label).mkdir(parents=True)
        for number in range(5):
            shutil.copy(next(videos), tmp_path / "videos" / label / f"{NAME} {number}.mp4")
    cache, run = tmp_path / "cache", tmp_path / "run"
    split = ("--split", "3/1/1", "--workers", 0)
    extracted = avcil("extract", tmp_path / "videos", "--out", cache, *split, *DEMO_ENCODERS)
    assert extracted.code == 0 and "10 clips encoded" in extracted.out, extracted.err
    assert {clip.label for clip in TokenCache(cache).clips} == set(LABELS)
    assert f"{LABELS[0]}/{NAME} 0" in {clip.id for clip in TokenCache(cache).clips}

    trained = avcil("train", cache, "--out", run, "--steps", 2, "--memory", 2, "--epochs", 1)
    assert trained.code == 0, trained.err
    evaluated = avcil("eval", run, "--json")
    assert sorted(json.loads(evaluated.out)["classes"]) == sorted(LABELS)

    video = tmp_path / "videos" / LABELS[0] / f"{NAME} 0.mp4"
    shown = avcil("predict", run, video, "--workers", 0)
    assert shown.code == 0 and shown.out.count("\n") == 1
    assert not set(shown.out) & {"\x1b", "\u202e", "\u200f"} and "[bold]" in shown.out
    told = json.loads(avcil("predict", run, video, "--json", "--workers", 0).out)["videos"]
    assert told[0]["video"] == str(video) and sorted(told[0]["probabilities"]) == sorted(LABELS)
    table = avcil("predict", run, video, "--csv", "--workers", 0).out
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["video"] for row in rows] == [str(video)] * 2
    assert sorted(row["label"] for row in rows) == sorted(LABELS)

    drawn = avcil("attend", run, video, "--out", tmp_path / "attention")
    assert drawn.code == 0 and not set(drawn.out) & {"\x1b", "\u202e", "\u200f"}, drawn.err
