"""Whole incremental runs, through the public training path, against the published program."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from support import golden
from support.golden import WIDTH, assert_close, load_golden
from torch import Tensor

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenCache, TokenSpec
from avcil.train.config import AvcilConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.draws import Draws
from avcil.train.model import AudioVisualNetwork, NetworkShape
from avcil.train.predict import predict_logits
from avcil.train.protocol import clip_set
from avcil.train.run import plan_run, train_run
from avcil.train.run_folder import RunFolder
from avcil.train.step_data import load_clips

GROUPS = load_golden("trajectory")
METHODS = {"AV-CIL": "avcil", "Fine-tuning": "finetune", "Oracle (upper bound)": "upper-bound"}
RUNS = [
    (group, name)
    for group, table in GROUPS.items()
    for name, run in table["runs"].items()
    if run["method"] in METHODS
]
TERMS = {
    "instance_term": "instance_contrastive",
    "class_term": "class_contrastive",
    "attention_term": "attn_score_distil",
}
PARTS = {"inst": "instance", "class": "class", "spatial": "spatial", "temporal": "temporal"}


class PublishedDraws(Draws):
    """Initial weights, new rows and batch orders as the reference was given them."""

    def __init__(self, settings: dict[str, Any], run: dict[str, Any]) -> None:
        super().__init__(seed=0)
        self._settings, self._run = settings, run

    def network(self, step: int, shape: NetworkShape) -> AudioVisualNetwork:
        seed = self._settings["init_seed"] + step
        return golden.draw_network(seed, shape.modality, shape.classes, torch.float32)

    def new_rows(self, step: int, width: int, classes: int) -> torch.nn.Linear:
        assert width == WIDTH
        return golden.new_rows(self._settings["rows_seed"] + step, classes)

    def order(self, step: int, epoch: int, size: int, which: Literal["current", "exemplars"]) -> Tensor:
        orders = self._run["steps"][step].get("orders")
        return torch.tensor(orders[which][epoch]) if orders else torch.arange(size)


@cache
def reference_clips(group: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return golden.draw_data_set(GROUPS[group]["config"]["data"])


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def build(group: str) -> TokenCache:
        clips = reference_clips(group)
        space = GROUPS[group]["config"]["data"]["s"]
        path = tmp_path_factory.mktemp("reference") / group
        none = EncoderInfo("reference", "0" * 64, "none")
        info = CacheInfo(
            TokenSpec((golden.FRAMES, space, WIDTH), "float32"),
            TokenSpec((WIDTH,), "float32"),
            {},
            none,
            none,
        )
        # Clip ids are <split>_c<class>_<index>.
        rows = [CacheClip(name, f"class-{name.split('_c')[1][:2]}", name.split("_")[0]) for name in clips]
        with CacheWriter.open(path, info, rows) as writer:
            audio, visual = (np.stack(part) for part in zip(*clips.values(), strict=True))
            writer.write(list(clips), visual, audio)
        return TokenCache(path)

    return build


def configuration(settings: dict[str, Any], run: dict[str, Any], group: str) -> RunConfig:
    classes, whole = len(settings["data"]["sizes"]["train"]), 1_000_000
    terms = run.get("terms")
    return RunConfig(
        method=METHODS[run["method"]],
        modality=run["modality"],
        fidelity="released",
        protocol=ProtocolConfig(
            step_sizes=(settings["classes_per_step"],) * (classes // settings["classes_per_step"]),
            memory=settings["memory"],
        ),
        training=TrainingConfig(
            epochs=settings["epochs"],
            batch=settings["batch"] or whole,
            exemplar_batch=settings["exemplar_batch"] or whole,
            learning_rate=settings["lr"],
            weight_decay=settings["weight_decay"],
            seed=settings["python_seed"],
            precision="fp64",
            device="cpu",
        ),
        avcil=AvcilConfig(
            lambda_instance=settings["lam_I"],
            lambda_class=settings["lam_C"],
            lambda_attention=settings["lam"],
            contrastive_temperature=settings["tau"],
            joint_cross_entropy_at_step_1=settings["classes_per_step"] == 4,  # on AVE, as all of these are
            **{switch: terms is None or name in terms for switch, name in TERMS.items()},
        ),
    )


@pytest.mark.parametrize("group", GROUPS)
def test_the_data_are_those_of_the_reference(group: str) -> None:
    clips, checks = reference_clips(group), GROUPS[group]["dataset_checks"]
    assert len(clips) == checks["n_clips"]
    assert sum(a.astype("f8").sum() for a, _ in clips.values()) == pytest.approx(checks["audio_sum_f64"])
    assert sum(v.astype("f8").sum() for _, v in clips.values()) == pytest.approx(checks["visual_sum_f64"])
    for name, sample in checks["samples"].items():
        assert clips[name][0][:3].tolist() == pytest.approx(sample["audio_first3"])
        assert clips[name][1].ravel()[:3].tolist() == pytest.approx(sample["visual_first3"])


@pytest.mark.parametrize(("group", "name"), RUNS, ids=[f"{group}: {name}" for group, name in RUNS])
def test_run(group: str, name: str, caches: Any, tmp_path: Path) -> None:
    reference = GROUPS[group]["runs"][name]
    settings = GROUPS[group]["config"] | (reference.get("settings_changed") or {})
    plan = plan_run(caches(group), configuration(settings, reference, group))
    run = train_run(plan, tmp_path / "run", draws=PublishedDraws(settings, reference))
    tolerance = reference["float64"]["tolerance"]
    tolerance = (
        tolerance if isinstance(tolerance, dict) else dict.fromkeys(("train_loss", "logits"), tolerance)
    )
    for step, exact in enumerate(reference["float64"]["steps"]):
        expected = reference["steps"][step] | exact
        where = f"{name}: step {step}"
        record = run.record(step)
        losses = [epoch.loss for epoch in record.epochs]
        assert_close(losses, expected["train_loss"], tolerance["train_loss"], f"{where}: losses")
        check_discrete(plan, run, step, expected, where)
        test = load_clips(
            plan.cache, clip_set(plan.clips.test, range(plan.protocol.seen(step))), plan.modality, plan.device
        )
        network = run.network(step, plan.device)
        logits = predict_logits(network, test.tokens, plan.dtype)
        assert_close(logits[:3], expected["logits_first3"], tolerance["logits"], f"{where}: first logits")
        assert_close(logits[-3:], expected["logits_last3"], tolerance["logits"], f"{where}: last logits")
        for key, norm in expected["param_l2"].items():
            parameter = network.get_parameter(golden.PARAMETERS[key])
            assert_close(parameter.norm(), norm, tolerance["logits"], f"{where}: |{key}|")
        if settings["batch"] is None:  # one update an epoch, so an epoch's terms are an update's
            check_parts(plan.config.avcil, record.epochs, expected.get("parts", []), where)


def check_discrete(plan: Any, run: RunFolder, step: int, expected: dict[str, Any], where: str) -> None:
    record, seen = run.record(step), plan.protocol.seen(step)
    validation = sum(len(ids) for ids in plan.clips.val[:seen])
    hits = [round((epoch.val_accuracy or 0) * validation) for epoch in record.epochs]
    assert hits == expected["val_correct"], where
    assert record.best_epoch == expected["best_epoch"], where
    assert record.predicted == expected["predictions"], where
    assert record.train_clips == expected["n_train"], where
    kept = [clip_id for ids in record.exemplars.values() for clip_id in ids]
    assert kept == [clip_id for clip_id in expected.get("memory_used") or []], where


def check_parts(avcil: AvcilConfig, epochs: Any, parts: list[dict[str, Any]], where: str) -> None:
    """Each unweighted term of every update, stored in float32 by the reference."""
    share = avcil.lambda_attention
    weights = {"instance": avcil.lambda_instance, "class": avcil.lambda_class}
    weights |= {"spatial": share, "temporal": 1 - share}
    for epoch, part in zip(epochs, parts, strict=bool(parts)):
        for key, term in PARTS.items():
            if key in part:
                assert_close(epoch.terms[term] / weights[term], part[key], 3e-4, f"{where}: {key}")
        assert_close(epoch.terms["distillation"], sum(part["kd_tasks"]), 3e-4, f"{where}: kd")


def test_runs_are_found() -> None:
    assert bool(RUNS) == bool(GROUPS)
    if "AVCIL_GOLDEN" not in os.environ:
        assert len(RUNS) == 17


@pytest.mark.skipif(not RUNS, reason="this reference set holds no run of a method that is here")
def test_wrong_draws_are_noticed(caches: Any, tmp_path: Path) -> None:
    """The comparison can fail: another weight decay leaves the trajectory."""
    group, name = RUNS[0]
    reference = GROUPS[group]["runs"][name]
    settings = GROUPS[group]["config"]
    config = configuration(settings, reference, group)
    config = replace(config, training=replace(config.training, weight_decay=0.03))
    run = train_run(
        plan_run(caches(group), config), tmp_path / "run", draws=PublishedDraws(settings, reference)
    )
    with pytest.raises(AssertionError):
        for step, exact in enumerate(reference["float64"]["steps"]):
            assert_close([epoch.loss for epoch in run.record(step).epochs], exact["train_loss"], 1e-8, "")
