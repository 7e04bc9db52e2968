"""Whole incremental runs, through the public training path, against the published program."""

from __future__ import annotations

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
from avcil.train.config import MethodConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.draws import Draws
from avcil.train.network.inference import logits
from avcil.train.network.layers import OutputLayer
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.plan import Plan, plan_run
from avcil.train.protocol import clip_set
from avcil.train.record.metrics import average_forgetting, forgetting, mean_accuracy, task_accuracy
from avcil.train.record.records import StepRecord
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier
from avcil.train.run import train_run
from avcil.train.tokens.loading import load_once

GROUPS = load_golden("trajectory")
METHODS = {
    "Fine-tuning": "finetune",
    "LwF": "lwf",
    "iCaRL-NME": "icarl-nme",
    "iCaRL-FC": "icarl-fc",
    "SS-IL": "ss-il",
    "AFC-NME": "afc-nme",
    "AFC-LSC": "afc-lsc",
    "AV-CIL": "avcil",
    "Oracle (upper bound)": "upper-bound",
}
RUNS = [(group, name) for group, table in GROUPS.items() for name in table["runs"]]
TERMS = {
    "instance_term": "instance_contrastive",
    "class_term": "class_contrastive",
    "spatial_term": "attn_score_distil",
    "temporal_term": "attn_score_distil",
}
PARTS = {
    "inst": "instance",
    "class": "class",
    "spatial": "spatial",
    "temporal": "temporal",
    "ce": "cross_entropy",
}
# Of what a step of the reference holds, these are inputs, or say how safe its decisions were.
NOT_COMPARED = {"orders", "min_val_margin", "min_test_margin", "min_val_gap", "min_herding_gap"}
RUN_KEYS = {
    *("method", "modality", "terms", "settings_changed", "repeat_identical", "decision_safety", "measured"),
    *("tolerance", "float64", "steps", "mean_test_acc", "average_forgetting"),
}
GROUP_KEYS = {"config", "dataset_checks", "runs"}
SETTINGS = {
    *("data", "classes_per_step", "epochs", "batch", "exemplar_batch", "infer_batch", "lr", "weight_decay"),
    *("memory", "init_seed", "rows_seed", "python_seed", "lam", "lam_I", "lam_C", "lam_disc", "tau"),
}
PRECISIONS: dict[str, Literal["fp64", "fp32"]] = {"float64": "fp64", "float32": "fp32"}


class PublishedDraws(Draws):
    """Initial weights, layers of new classes and batch orders as the reference was given them."""

    def __init__(self, settings: dict[str, Any], run: dict[str, Any]) -> None:
        super().__init__(seed=0)
        self._settings, self._run = settings, run

    def network(self, step: int, shape: NetworkShape, layer: type[OutputLayer] | None) -> AudioVisualNetwork:
        assert layer is not None
        seed = self._settings["init_seed"] + step
        return golden.draw_network(seed, shape.modality, shape.classes, torch.float32, layer)

    def new_layer(self, step: int, layer: type[OutputLayer], width: int, classes: int) -> OutputLayer:
        assert width == WIDTH
        return golden.new_layer(self._settings["rows_seed"] + step, layer, classes)

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
        none = EncoderInfo("reference", "0" * 64)
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


def configuration(settings: dict[str, Any], run: dict[str, Any], precision: str) -> RunConfig:
    classes, whole = len(settings["data"]["sizes"]["train"]), 1_000_000
    terms, per_step = run.get("terms"), settings["classes_per_step"]
    joint = {"joint_cross_entropy_at_step_1": per_step == 4}  # on AVE, as all of these are
    method, afc = METHODS[run["method"]], {"lambda_distillation": settings["lam_disc"]}
    own: dict[str, dict[str, Any]] = {
        "afc-nme": afc,
        "afc-lsc": afc,
        "ss-il": joint,
        "avcil": {
            "lambda_instance": settings["lam_I"],
            "lambda_class": settings["lam_C"],
            "lambda_attention": settings["lam"],
            "contrastive_temperature": settings["tau"],
            **joint,
            **{switch: terms is None or name in terms for switch, name in TERMS.items()},
        },
    }
    return RunConfig(
        method=MethodConfig(method, own.get(method, {})),
        modality=run["modality"],
        fidelity="released",
        protocol=ProtocolConfig(step_sizes=(per_step,) * (classes // per_step), memory=settings["memory"]),
        training=TrainingConfig(
            epochs=settings["epochs"],
            batch=settings["batch"] or whole,
            exemplar_batch=settings["exemplar_batch"] or whole,
            learning_rate=settings["lr"],
            weight_decay=settings["weight_decay"],
            seed=settings["python_seed"],
            precision=PRECISIONS[precision],
            device="cpu",
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


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("group", "name"), RUNS, ids=[f"{group}: {name}" for group, name in RUNS])
def test_run(group: str, name: str, precision: str, caches: Any, tmp_path: Path) -> None:
    reference = GROUPS[group]["runs"][name]
    settings = GROUPS[group]["config"] | (reference.get("settings_changed") or {})
    assert set(reference) <= RUN_KEYS and set(settings) <= SETTINGS and set(GROUPS[group]) == GROUP_KEYS
    assert set(reference.get("terms") or []) <= set(TERMS.values())
    plan = plan_run(caches(group), configuration(settings, reference, precision))
    run = train_run(plan, tmp_path / "run", draws=PublishedDraws(settings, reference))
    exact = reference["float64"]
    tolerance = (exact if precision == "float64" else reference)["tolerance"]
    if not isinstance(tolerance, dict):
        tolerance = dict.fromkeys(("train_loss", "logits", "nme_dist"), tolerance)
    matrix = []
    for step, expected in enumerate(reference["steps"]):
        where, record = f"{name}: step {step}", run.record(step)
        expected = expected | exact["steps"][step] if precision == "float64" else expected
        checked = NOT_COMPARED | check_numbers(plan, run, step, expected, tolerance, where)
        checked |= check_discrete(plan, record, expected, safe(reference, precision), where)
        if settings["batch"] is None:  # one update an epoch, so an epoch's terms are an update's
            check_parts(plan.config, record, expected.get("parts") or [], where)
        matrix.append(task_accuracy(record.predicted, record.true, plan.protocol.tasks[: step + 1]))
        assert set(expected) <= checked | {"parts"}
    if safe(reference, precision)["validation"]:
        accuracies = [step["test_acc"] for step in reference["steps"]]
        assert mean_accuracy(accuracies) == pytest.approx(reference["mean_test_acc"])
        assert matrix == [pytest.approx(step["task_acc"]) for step in reference["steps"]]
        if "average_forgetting" in reference:
            assert average_forgetting(matrix) == pytest.approx(reference["average_forgetting"])
            assert forgetting(matrix)[1:] == [pytest.approx(s["forgetting"]) for s in reference["steps"][1:]]
    golden.CHECKED[f"runs in {precision}"] += 1


def safe(reference: dict[str, Any], precision: str) -> dict[str, bool]:
    """Which decisions another float32 implementation must take alike: margins well above its rounding."""
    ratios = reference["decision_safety"]["float32"]
    return {kind: precision == "float64" or ratio is None or ratio > 2 for kind, ratio in ratios.items()}


def check_numbers(
    plan: Plan, run: Run, step: int, expected: dict[str, Any], tolerance: dict[str, float], where: str
) -> set[str]:
    """Losses, logits, distances to class means and norms of the parameters; gives the keys compared."""
    losses = [epoch.loss for epoch in run.record(step).epochs]
    assert_close(losses, expected["train_loss"], tolerance["train_loss"], f"{where}: losses")
    ids = clip_set(plan.clips.test, range(plan.protocol.seen(step)))
    test = load_once(plan.cache, ids.ids, plan.needs, plan.device)
    classifier = load_classifier(run, step, plan.device)
    found = {"logits": logits(classifier.network, test)}
    if "nme_dist_first3" in expected:
        found["nme_dist"] = -classifier.scores(test)
    for key, rows in found.items():
        assert_close(rows[:3], expected[f"{key}_first3"], tolerance[key], f"{where}: first {key}")
        assert_close(rows[-3:], expected[f"{key}_last3"], tolerance[key], f"{where}: last {key}")
    for key, norm in expected["param_l2"].items():
        parameter = classifier.network.get_parameter(golden.PARAMETERS[key])
        assert_close(parameter.norm(), norm, tolerance["logits"], f"{where}: |{key}|")
    return {"train_loss", "param_l2"} | {f"{key}_{end}3" for key in found for end in ("first", "last")}


def check_discrete(
    plan: Plan, record: StepRecord, expected: dict[str, Any], safe: dict[str, bool], where: str
) -> set[str]:
    """Hits, selected epochs, predictions and exemplars; gives the keys compared."""
    assert record.train_clips == expected["n_train"], where
    used = [clip_id for ids in record.exemplars.values() for clip_id in ids]
    if "memory_used" in expected:
        assert used == (expected["memory_used"] or []), where
    if safe["validation"]:
        validation = sum(len(ids) for ids in plan.clips.val[: plan.protocol.seen(record.step)])
        accuracies = [epoch.val_accuracy or 0.0 for epoch in record.epochs]
        assert accuracies == pytest.approx(expected["val_acc"]), where
        assert [round(share * validation) for share in accuracies] == expected["val_correct"], where
        assert record.best_epoch == expected["best_epoch"], where
        assert record.predicted == expected["predictions"], where
        hits = sum(p == y for p, y in zip(record.predicted, record.true, strict=True))
        assert hits == expected["test_correct"], where
    if safe["validation"] and safe["herding"] and "memory_after_step" in expected:
        m = plan.protocol.exemplars_per_class(plan.protocol.seen(record.step))
        padded = [ids + [None] * (m - len(ids)) for ids in record.kept.values()]
        assert padded == expected["memory_after_step"], where
    else:
        assert bool(record.kept) == ("memory_after_step" in expected), where
    return {
        *("n_train", "memory_used", "memory_after_step", "val_acc", "val_correct", "best_epoch"),
        *("predictions", "test_correct", "test_acc", "task_acc", "forgetting"),
    }


def check_parts(config: RunConfig, record: StepRecord, parts: list[dict[str, Any]], where: str) -> None:
    """Each unweighted term of every update, stored in float32 by the reference."""
    settings = config.method.settings
    share = settings.get("lambda_attention", 0.5)
    weights = {"instance": settings.get("lambda_instance"), "class": settings.get("lambda_class")}
    weights |= {"spatial": share, "temporal": 1 - share}
    known = {*PARTS, "kd_tasks", "ce_current", "ce_exemplar", "ce_joint"}  # separated ones are in train_loss
    for epoch, part in zip(record.epochs, parts, strict=bool(parts)):
        assert set(part) <= known, where
        terms = PARTS | ({"ce_joint": "cross_entropy"} if "ce_joint" in part else {})
        for key, term in terms.items():
            if key in part:
                value = epoch.terms[term] / (weights.get(term) or 1.0)
                assert_close(value, part[key], 3e-4, f"{where}: {key}")
        assert_close(epoch.terms["distillation"], sum(part["kd_tasks"]), 3e-4, f"{where}: kd")


AUDIO = [
    (group, name)
    for group, name in RUNS
    if (GROUPS[group]["runs"][name]["method"], GROUPS[group]["runs"][name]["modality"])
    == ("Fine-tuning", "audio")
]


@pytest.mark.skipif(not AUDIO, reason="this reference set holds no such run")
def test_a_wrong_setting_is_noticed(caches: Any, tmp_path: Path) -> None:
    """The comparison can fail: another weight decay leaves the trajectory."""
    group, name = AUDIO[0]
    reference, settings = GROUPS[group]["runs"][name], GROUPS[group]["config"]
    config = configuration(settings, reference, "float64")
    config = replace(config, training=replace(config.training, weight_decay=0.03))
    run = train_run(
        plan_run(caches(group), config), tmp_path / "run", draws=PublishedDraws(settings, reference)
    )
    with pytest.raises(AssertionError):
        for step, exact in enumerate(reference["float64"]["steps"]):
            assert_close([epoch.loss for epoch in run.record(step).epochs], exact["train_loss"], 1e-8, "")
