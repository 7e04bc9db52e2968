"""Reduced caches: statistics come out as those of the whole tokens, and what needs more says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache.operations.pool import pool
from avcil.cache.token_spec import Statistics
from avcil.errors import ConfigError
from avcil.train.config import MethodConfig, NetworkConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.plan import plan_run
from avcil.train.record.evaluation import evaluate_run
from avcil.train.run import train_run
from avcil.train.tokens.budget import Budget
from avcil.train.tokens.loading import TokenNeeds, TokenSet, load_once, load_tokens

CPU = torch.device("cpu")
SPEC = SyntheticSpec(classes=4, train=6, val=2, test=4, time=2, space=4, width=8, separation=4.0)
CONFIG = RunConfig(
    protocol=ProtocolConfig(steps=2, memory=8),
    training=TrainingConfig(epochs=2, batch=8, exemplar_batch=4, device="cpu"),
)
ALL: tuple[Statistics, ...] = ("mean", "mean-std", "mean-std-max")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return TokenCache(path)


@pytest.fixture(scope="module")
def pooled(cache: TokenCache, tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("pooled") / "cache"
    pool(cache, path, statistics="mean-std")
    return TokenCache(path)


def visual(cache: TokenCache, needs: TokenNeeds) -> np.ndarray:
    """[n, k, D] of all clips, as a step is given them."""
    ids = [clip.id for clip in cache.clips]
    (tokens,), placement = load_tokens(cache, [TokenSet("clips", ids, 4)], needs, CPU, Budget(0, 0))
    assert "float64" in str(placement)
    order = [torch.arange(len(ids))]
    (batch,) = tokens.batches(order, torch.float64)
    (once,) = load_once(cache, ids, needs, CPU).batches(order, torch.float64)
    assert batch.visual is not None and once.visual is not None
    found = batch.visual.widened(torch.float64)
    assert torch.equal(found, once.visual.widened(torch.float64)) and len(found[0]) == 1
    assert torch.equal(batch.audio, torch.from_numpy(cache.read(ids).audio).double())
    return found[:, 0].numpy()


@pytest.mark.parametrize("held", ALL)
def test_statistics_are_those_of_the_whole_tokens(
    held: Statistics, cache: TokenCache, tmp_path: Path
) -> None:
    pool(cache, tmp_path / "pooled", statistics=held)
    for needed in ALL[: ALL.index(held) + 1]:
        needs = TokenNeeds(visual=needed)
        found, expected = visual(TokenCache(tmp_path / "pooled"), needs), visual(cache, needs)
        assert found.shape == (len(cache.clips), len(needed.split("-")), SPEC.width)
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def with_method(name: str, **settings: str) -> RunConfig:
    return replace(CONFIG, method=MethodConfig(name, settings))


def test_what_averages_tokens_trains_the_same(cache: TokenCache, pooled: TokenCache, tmp_path: Path) -> None:
    averaging = replace(CONFIG, network=NetworkConfig(attention=False))
    ways = {
        "picture": replace(with_method("finetune"), modality="visual"),
        "sound": replace(with_method("finetune"), modality="audio"),
        "averaging": averaging,
        "statistics": with_method("slda", features="mean-std"),
    }
    for name, config in ways.items():
        runs = [
            train_run(plan_run(one, config), tmp_path / f"{name}{k}") for k, one in enumerate((cache, pooled))
        ]
        results = [evaluate_run(run) for run in runs]
        assert results[0].matrix == results[1].matrix, name


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (CONFIG, "'avcil', audio-visual, attends to single visual tokens .* only their mean, std; train on"),
        (with_method("finetune"), "attends to single visual tokens"),
        (with_method("slda", features="network"), "attends to single visual tokens"),
        (
            with_method("slda", features="mean-std-max"),
            "needs the max of visual tokens .* has only their mean, std; .*--statistics mean-std-max",
        ),
    ],
)
def test_what_needs_more_is_one_line(config: RunConfig, words: str, pooled: TokenCache) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        plan_run(pooled, config)
    assert "\n" not in str(refused.value)


def test_attention_is_trained_on_a_coarser_grid(cache: TokenCache, tmp_path: Path) -> None:
    pool(cache, tmp_path / "grid", grid=1)
    run = train_run(plan_run(TokenCache(tmp_path / "grid"), CONFIG), tmp_path / "run")
    assert evaluate_run(run).method == "avcil"
    assert run.token_info.visual.shape == (2, 1, 8)
