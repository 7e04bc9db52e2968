"""The authors' split files: the published lists, and files that are damaged, contradictory or malicious."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.golden import CHECKED, load_golden

from avcil.errors import ManifestError
from avcil.extract.sources.authors import CHECK_NAME, CLIPS_NAME, LABELS_NAME, read_authors
from avcil.extract.sources.clip import ListedClip
from avcil.extract.sources.manifest import SourceOptions, read_manifest
from avcil.train.config import ProtocolConfig
from avcil.train.methods.exemplars import random_exemplars
from avcil.train.protocol import build_protocol, clip_set, exemplar_set, group_clips

SPLITS = os.environ.get("AVCIL_TEST_SPLITS")
published = pytest.mark.skipif(not SPLITS, reason="AVCIL_TEST_SPLITS names no folder of split files")
FOLDERS = {"AVE": "AVE", "K-S": "kinetics-sounds", "VS100": "VGGSound_100"}
COUNTS = {"AVE": (3294, 391, 394), "K-S": (19220, 1947, 1958), "VS100": (51195, 5000, 5000)}
SETTINGS = load_golden("exemplars")
CLIPS = {"test": {1: ["t"]}, "train": {1: ["c", "b"], 0: ["-a_é", "x" * 11 + "_000012"]}}
LABELS = {"bark, woof": 1, "🎺": 0}


def data_set(setting: str) -> str:
    return next(name for name in FOLDERS if setting.startswith(name))


def entries_of(setting: str) -> list[ListedClip]:
    assert SPLITS
    return read_authors(Path(SPLITS) / FOLDERS[data_set(setting)])


def summary(ids: Sequence[str]) -> dict[str, Any]:
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    return {"n": len(ids), "sha256_16": digest, "first": ids[0], "last": ids[-1]}


@published
@pytest.mark.parametrize("name", FOLDERS)
def test_published_counts(name: str) -> None:
    entries = entries_of(name)
    counts = Counter(entry.split for entry in entries)
    assert (counts["train"], counts["val"], counts["test"]) == COUNTS[name]
    assert len({entry.id for entry in entries}) == len(entries)


@published
@pytest.mark.parametrize("setting", SETTINGS)
def test_published_steps_and_memory(setting: str) -> None:
    want = SETTINGS[setting]
    assert set(want) == {"classes_per_step", "memory", "seed", "steps"}
    clips = [(entry.id, str(entry.label), str(entry.split)) for entry in entries_of(setting)]
    config = ProtocolConfig(classes_per_step=want["classes_per_step"], memory=want["memory"])
    labels = list(dict.fromkeys(label for _, label, _ in clips))
    n_classes = len(want["steps"]) * want["classes_per_step"]
    protocol = build_protocol(config, labels[:n_classes])
    groups = group_clips(protocol, clips, needs_val=True)
    for step, expected in enumerate(want["steps"]):
        seen = range(protocol.seen(step))
        assert set(expected) == {"step", "train", "val", "test"} | ({"exemplars"} if step else set())
        assert summary(clip_set(groups.train, protocol.tasks[step]).ids) == expected["train"]
        assert summary(clip_set(groups.val, seen).ids) == expected["val"]
        assert summary(clip_set(groups.test, seen).ids) == expected["test"]
        if step:
            memory = exemplar_set(random_exemplars(protocol, groups.train, want["seed"], step)).ids
            found = summary(memory) | {"first3": list(memory[:3])}
            assert {key: found[key] for key in expected["exemplars"] if key in found} == {
                key: value for key, value in expected["exemplars"].items() if key != "per_class"
            }
            assert protocol.exemplars_per_class(protocol.seen(step - 1)) == expected["exemplars"]["per_class"]
    CHECKED["exemplars settings"] += 1


@published
@pytest.mark.parametrize("name", FOLDERS)
def test_published_lists_find_their_videos(name: str, tmp_path: Path) -> None:
    assert SPLITS
    entries = entries_of(name)
    times = {"AVE": "", "K-S": "_000010_000020", "VS100": ""}[name]
    for entry in entries[::50]:
        (tmp_path / f"{entry.id}{times}.mp4").touch()
    source = Path(SPLITS) / FOLDERS[name]
    manifest = read_manifest(source, SourceOptions(videos=tmp_path))
    assert manifest.format == "authors"
    assert [clip.id for clip in manifest.clips] == [entry.id for entry in entries]
    missing = {clip.id for clip in manifest.missing}
    assert missing == {entry.id for entry in entries} - {entry.id for entry in entries[::50]}
    assert sum(one.listed - one.present for one in manifest.coverage()) == len(missing)


def write(folder: Path, clips: Any = CLIPS, labels: Any = LABELS, check: Any = None) -> Path:
    for name, value in ((CLIPS_NAME, clips), (LABELS_NAME, labels), (CHECK_NAME, check)):
        if value is not None:
            np.save(folder / name, value, allow_pickle=True)
    return folder


def test_classes_ascend_and_lists_keep_their_order(tmp_path: Path) -> None:
    found = read_authors(write(tmp_path))
    assert [(entry.id, entry.label, entry.split) for entry in found] == [
        ("-a_é", "🎺", "train"),
        ("x" * 11 + "_000012", "🎺", "train"),
        ("c", "bark, woof", "train"),
        ("b", "bark, woof", "train"),
        ("t", "bark, woof", "test"),
    ]
    assert (found[1].video, found[1].start, found[0].start) == ("x" * 11, 12, None)


def changed(**splits: Mapping[Any, Any]) -> dict[str, Any]:
    return {**CLIPS, **splits}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"labels": None}, f"{LABELS_NAME}: no such file"),
        ({"clips": {}}, "expected {split: {class id: [clip id]}}"),
        ({"clips": changed(dev={})}, "'dev': expected train, val or test"),
        ({"clips": changed(val={"0": ["x"]})}, "val, class '0': expected a list"),
        ({"clips": changed(val={0: "x"})}, "val, class 0: expected a list"),
        ({"clips": changed(val={0: [1]})}, "val, class 0: expected a list"),
        ({"clips": changed(val={True: ["x"]})}, "val, class True: expected a list"),
        ({"clips": changed(val={7: ["x"]})}, f"val, class 7: {LABELS_NAME} names no class"),
        ({"clips": changed(val={0: ["c"]})}, "id 'c' stands already in"),
        ({"clips": changed(val={0: ["../x"]})}, "it cannot be a file's name"),
        ({"clips": changed(val={0: [""]})}, "id '': it is empty"),
        ({"clips": changed(val={0: ["a\0"]})}, "a NUL"),
        ({"clips": changed(val={0: ["\ud800"]})}, "not valid Unicode"),
        ({"labels": {"a": 0, "b": 0}}, "class 0 has two labels"),
        ({"labels": {"a": "0"}}, "expected a label and a whole number"),
        ({"labels": {}}, "expected {label: class id}"),
        ({"labels": {" ": 0, "b": 1}}, "label ' ': it is empty"),
        ({"check": {"train": {"c": "🎺"}}}, "id 'c' is '🎺' in 'train', but 'bark, woof' in train"),
        ({"check": {"val": {"c": "bark, woof"}}}, "in 'val', but"),
        ({"check": {"train": []}}, "expected {split: {clip id: label}}"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file(files: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_authors(write(tmp_path, **files))
    assert words in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("name", ["clips", "labels", "check"])
def test_a_malicious_file_is_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "splits").mkdir()
    write(tmp_path / "splits", **{name: {"train": {0: [Evil()]}}})
    with pytest.raises(ManifestError, match=r"dict.npy: pickle, byte \d+: refused: it names '.*\.system'"):
        read_authors(tmp_path / "splits")
    assert not (tmp_path / "owned").exists()
