"""A head that is solved in closed form fits in: sums over tokens in float64, no network, no gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.train.config import MethodConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.methods.head import Head
from avcil.train.methods.method import Method, StepContext
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.plan import plan_run
from avcil.train.record.evaluation import evaluate_run
from avcil.train.record.records import StepRecord
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.run import train_run
from avcil.train.tokens.batches import StepTokens

CPU = torch.device("cpu")
SPEC = SyntheticSpec(classes=6, train=8, val=2, test=4, time=2, space=3, width=8, separation=4.0)
NAME = f"{__name__}:RIDGE"
CONFIG = RunConfig(
    method=MethodConfig(NAME),
    protocol=ProtocolConfig(steps=3),
    training=TrainingConfig(device="cpu", select="last"),
)


@dataclass(frozen=True)
class RidgeSettings:
    penalty: float = 1.0


@dataclass(frozen=True)
class Ridge(Head):
    """W = (G + penalty I)^-1 Q with G = sum x x^T and Q = sum x y^T over all clips so far."""

    gram: Tensor | None = None  # G [F, F]
    targets: Tensor | None = None  # Q [F, C]
    weight: Tensor | None = None  # W [F, C]

    def grow(self, context: StepContext) -> Ridge:
        x = features(context.current.tokens)
        y = torch.nn.functional.one_hot(context.current.labels, context.classes).double()
        gram, targets = x.T @ x, x.T @ y
        if self.gram is not None and self.targets is not None:
            gram = gram + self.gram
            targets[:, : context.old_classes] += self.targets
        ridge = context.settings.penalty * torch.eye(len(gram), dtype=gram.dtype)
        return Ridge(gram, targets, torch.linalg.solve(gram + ridge, targets))

    def scores(self, network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
        assert self.weight is not None and isinstance(self.settings, RidgeSettings)
        return features(tokens) @ self.weight


def features(tokens: StepTokens) -> Tensor:
    """[n, 2 D] the mean of the visual tokens beside the audio vector."""
    orders = torch.split(torch.arange(len(tokens)), 16)
    found = []
    for batch in tokens.batches(orders, torch.float64):
        assert batch.audio is not None and batch.visual is not None
        found.append(torch.cat([batch.visual.widened(torch.float64).mean(dim=(1, 2)), batch.audio], dim=1))
    return torch.cat(found)


RIDGE = Method(
    name="ridge",
    title="ridge",
    prepare=lambda context: None,
    settings=RidgeSettings,
    modalities=("audio-visual",),
    layer=None,
    head=Ridge,
    visual="mean",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return TokenCache(path)


def weight(run: Run) -> Tensor:
    return load_classifier(run, len(run.facts.step_sizes) - 1, CPU).head.state()["weight"]


def test_it_learns_and_is_kept_with_the_step(cache: TokenCache, tmp_path: Path) -> None:
    run = train_run(plan_run(cache, CONFIG), tmp_path / "run")
    assert evaluate_run(run).last_accuracy > 0.6
    classifier = load_classifier(run, 2, CPU)
    assert {name: kept.dtype for name, kept in classifier.head.state().items()} == dict.fromkeys(
        ("gram", "targets", "weight"), torch.float64
    )
    assert not classifier.network.state_dict() and not classifier.log_probabilities
    assert run.config.method.settings == {"penalty": 1.0}


def test_steps_do_not_matter_to_it(cache: TokenCache, tmp_path: Path) -> None:
    apart = train_run(plan_run(cache, CONFIG), tmp_path / "apart")
    together = replace(CONFIG, protocol=ProtocolConfig(steps=1))
    assert torch.allclose(weight(apart), weight(train_run(plan_run(cache, together), tmp_path / "once")))


def test_it_goes_on_after_an_interruption(cache: TokenCache, tmp_path: Path) -> None:
    def stop(record: StepRecord) -> None:
        if record.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(plan_run(cache, CONFIG), tmp_path / "broken", on_step=stop)
    resumed = train_run(plan_run(cache, CONFIG), tmp_path / "broken")
    assert torch.equal(weight(resumed), weight(train_run(plan_run(cache, CONFIG), tmp_path / "whole")))


def test_its_settings_are_its_own(cache: TokenCache, tmp_path: Path) -> None:
    heavier = replace(CONFIG, method=MethodConfig(NAME, {"penalty": 1e6}))
    one, other = (
        train_run(plan_run(cache, c), tmp_path / n) for c, n in ((CONFIG, "one"), (heavier, "other"))
    )
    assert float(weight(other).norm()) < float(weight(one).norm())
