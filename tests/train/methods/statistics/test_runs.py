"""Runs of statistics heads on a cache: trained, evaluated, interrupted and cut into steps in another way."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command import Outcome

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.train.config import MethodConfig, Modality, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.plan import plan_run
from avcil.train.record.evaluation import evaluate_run
from avcil.train.record.records import StepRecord
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.run import train_run
from avcil.train.tokens.loading import load_once

CPU = torch.device("cpu")
SPEC = SyntheticSpec(classes=6, train=8, val=2, test=4, time=2, space=3, width=8, separation=5.0)
SMALL: dict[str, dict[str, Any]] = {
    "ncm": {},
    "slda": {},
    "klda": {"dimensions": 60},
    "fecam": {},
    "ranpac": {"dimensions": 60},
    "acil": {"dimensions": 60},
    "air": {"dimensions": 60},
    "dsal": {"dimensions": 60},
    "mmal": {"dimensions": 60},
    "best": {},
}
STEPS_DO_NOT_MATTER = ("ncm", "slda", "klda", "fecam", "acil", "air")  # but for what standardises features
every_method = pytest.mark.parametrize("name", SMALL)


@pytest.fixture(autouse=True)
def small_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avcil.train.methods.statistics.best.KERNEL_DIMENSIONS", 60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return TokenCache(path)


def config(
    name: str, modality: Modality = "audio-visual", sizes: tuple[int, ...] = (2, 2, 2), **settings: Any
) -> RunConfig:
    return RunConfig(
        modality=modality,
        method=MethodConfig(name, SMALL[name] | settings),
        protocol=ProtocolConfig(step_sizes=sizes, memory=0),
        training=TrainingConfig(device="cpu", epochs=2, batch=8),
    )


def state(run: Run) -> dict[str, torch.Tensor]:
    return load_classifier(run, len(run.facts.step_sizes) - 1, CPU).head.state()


@every_method
def test_a_run_learns_and_keeps_no_clip(name: str, cache: TokenCache, tmp_path: Path) -> None:
    run = train_run(plan_run(cache, config(name)), tmp_path / "run")
    assert evaluate_run(run).last_accuracy > 0.6  # raises where predictions are not those on record
    assert not run.record(2).kept and run.facts.old_clips == "none"
    stored = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert not any(clip.id.encode() in stored for clip in cache.clips if clip.split == "train")


@every_method
def test_an_interrupted_run_ends_bit_for_bit_the_same(name: str, cache: TokenCache, tmp_path: Path) -> None:
    def stop(record: StepRecord) -> None:
        if record.step == 1:
            raise KeyboardInterrupt

    plan = plan_run(cache, config(name))
    with pytest.raises(KeyboardInterrupt):
        train_run(plan, tmp_path / "broken", on_step=stop)
    resumed = state(train_run(plan, tmp_path / "broken"))
    whole = state(train_run(plan, tmp_path / "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


@pytest.mark.parametrize("name", STEPS_DO_NOT_MATTER)
def test_later_steps_add_up_to_one(name: str, cache: TokenCache, tmp_path: Path) -> None:
    plans = {sizes: plan_run(cache, config(name, sizes=sizes)) for sizes in ((2, 1, 1, 2), (2, 4))}
    found = []
    for sizes, plan in plans.items():
        run = train_run(plan, tmp_path / f"in {len(sizes)}")
        tokens = load_once(cache, [clip.id for clip in cache.clips], plan.needs, CPU)
        found.append(load_classifier(run, len(sizes) - 1, CPU).scores(tokens))
    assert (found[0] - found[1]).abs().max() <= 1e-8 * found[0].abs().max()


@every_method
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_one_modality_is_enough(name: str, modality: Modality, cache: TokenCache, tmp_path: Path) -> None:
    run = train_run(plan_run(cache, config(name, modality)), tmp_path / "run")
    assert evaluate_run(run).mean_accuracy > 0.4


@pytest.mark.parametrize("name", ["fecam", "acil", "mmal"])
def test_features_of_a_network_frozen_after_its_first_step(
    name: str, cache: TokenCache, tmp_path: Path
) -> None:
    run = train_run(plan_run(cache, config(name, features="network")), tmp_path / "run")
    evaluate_run(run)
    assert [len(run.record(step).epochs) for step in range(3)] == [2, 0, 0]
    networks = [load_classifier(run, step, CPU).network.state_dict() for step in (0, 2)]
    assert all(
        torch.equal(networks[0][key], networks[1][key]) for key in networks[0] if "classifier" not in key
    )


@pytest.mark.parametrize("name", ["slda", "ranpac"])
def test_commands_do_not_speak_of_epochs(
    name: str, cache: TokenCache, tmp_path: Path, avcil: Callable[..., Outcome]
) -> None:
    protocol = tmp_path / "small.toml"
    dimensions = "dimensions = 60\n" if "dimensions" in SMALL[name] else ""
    protocol.write_text(f'[method]\nname = "{name}"\n{dimensions}[protocol]\nsteps = 3\n')
    options = ("--protocol", protocol, "--device", "cpu")
    trained = avcil("train", cache.paths[0], "--out", tmp_path / "run", *options)
    assert trained.code == 0, trained.err
    assert "epoch" not in trained.out and "no network is trained" in trained.out
    shown = avcil("eval", tmp_path / "run", "--html")
    assert shown.code == 0, shown.err
    assert "epoch" not in shown.out
    for word in ("epoch", "nan", "None", "undefined"):
        assert word not in visible(tmp_path / "run" / "report.html"), word


def visible(page: Path) -> str:
    """The page's text without scripts, styles and the configuration."""
    return re.sub(r"<(script|style|pre).*?</\1>|<[^>]+>", " ", page.read_text(), flags=re.S)
