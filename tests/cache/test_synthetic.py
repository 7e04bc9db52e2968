"""The made-up cache is reproducible and each modality tells something about the class."""

from pathlib import Path

import numpy as np
import pytest

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.errors import CacheError


def nearest_mean_accuracy(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    names = np.unique(labels["train"])
    means = np.stack([features["train"][labels["train"] == name].mean(0) for name in names])
    distance = ((features["test"][:, None] - means) ** 2).sum(-1)
    return float((names[distance.argmin(1)] == labels["test"]).mean())


def test_each_modality_helps(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SyntheticSpec(train=20, test=30))
    cache = TokenCache(tmp_path / "c")
    visual, audio, labels = {}, {}, {}
    for split in ("train", "test"):
        clips = cache.present(split)
        tokens = cache.read([clip.id for clip in clips])
        visual[split], audio[split] = tokens.visual.mean((1, 2), dtype=np.float32) * 3, tokens.audio
        labels[split] = np.array([clip.label for clip in clips])
    both = {split: np.hstack([visual[split], audio[split]]) for split in visual}
    single = [nearest_mean_accuracy(one, labels) for one in (visual, audio)]
    assert min(single) > 0.5
    assert nearest_mean_accuracy(both, labels) > max(single)


def test_same_spec_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic_cache(tmp_path / name, SyntheticSpec(classes=2, train=2, val=1, test=0, seed=seed))
    shards = [(tmp_path / name / "shard-00000.h5").read_bytes() for name in "abc"]
    assert shards[0] == shards[1] != shards[2]


def test_spec_names_the_bad_key() -> None:
    with pytest.raises(CacheError, match="train is 0"):
        SyntheticSpec(train=0)
