"""Whole objectives on drawn networks, with gradients: AV-CIL, SS-IL and AFC."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from support import golden
from support.golden_terms import Precision, compare
from torch import Tensor

from avcil.train.config import RunConfig
from avcil.train.methods import afc, find_method, losses
from avcil.train.methods.avcil import AvcilSettings
from avcil.train.methods.head import NetworkHead
from avcil.train.methods.method import AttentionObjective, Batch, StepContext
from avcil.train.methods.proxies import ProxyLayer
from avcil.train.network.inference import logits
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.tokens.batches import ResidentTokens, StepClips

TERMS = {
    "ce_separated": "cross_entropy",
    "kd": "distillation",
    "instance_contrastive": "instance",
    "class_contrastive": "class",
    "spatial_distillation": "spatial",
    "temporal_distillation": "temporal",
}


def avcil(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    """AV-CIL and SS-IL, the gradient of every term by itself too."""
    step, size, n_current = inputs["step"], inputs["classes_per_step"], inputs["n_current"]
    n, old, av_terms = n_current + inputs["n_exemplar"], step * size, inputs["terms"] == "all"
    tokens = golden.draw_clips(inputs["clips_seed"], n, inputs["spatial_tokens"], precision.dtype)
    labels = torch.tensor(inputs["labels"])
    student = golden.draw_network(inputs["student_seed"], "audio-visual", old + size, precision.dtype)
    teacher = golden.draw_teacher(student, inputs["teacher_seed"], inputs["teacher_mix"], old)
    settings = AvcilSettings(
        lambda_instance=inputs["lam_I"],
        lambda_class=inputs["lam_C"],
        lambda_attention=inputs["lam"],
        contrastive_temperature=inputs["tau"],
        instance_term=av_terms,
        class_term=av_terms,
        spatial_term=av_terms,
        temporal_term=av_terms,
    )
    method = find_method({"AV-CIL": "avcil", "SS-IL": "ss-il"}[inputs["method"]])
    context = context_of(
        step,
        size,
        StepClips(ResidentTokens(*(part[:n_current] for part in tokens)), labels[:n_current]),
        StepClips(ResidentTokens(*(part[n_current:] for part in tokens)), labels[n_current:]),
        student,
        teacher,
        RunConfig(),
        settings if method.name == "avcil" else method.settings(),
    )
    objective = method.prepare(context)
    assert objective is not None
    loss, frozen = objective, None
    if isinstance(objective, AttentionObjective):
        loss, frozen = objective.loss, objective.teacher
    output = student(*tokens, frozen)
    weighted = loss(output, Batch(torch.arange(n_current), torch.arange(n - n_current), labels))
    weights = {"instance": inputs["lam_I"], "class": inputs["lam_C"]}
    weights |= {"spatial": inputs["lam"], "temporal": 1 - inputs["lam"]}
    terms = {key: weighted[term] / weights.get(term, 1.0) for key, term in TERMS.items() if term in weighted}
    terms["total"] = torch.stack(list(weighted.values())).sum()
    terms["ce_current"] = F.cross_entropy(output.logits[:n_current, old:], labels[:n_current] - old)
    terms["ce_exemplar"] = F.cross_entropy(output.logits[n_current:, :old], labels[n_current:])
    targets = logits(teacher, ResidentTokens(*tokens))
    by_task = {
        f"kd_task_{k}": losses.task_distillation(output.logits, targets, [task], 2.0)
        for k, task in enumerate(context.tasks[:step])
    }
    terms |= by_task | {"kd_tasks": torch.stack(list(by_task.values()))}
    expect = dict(expect)
    whole, parts = expect.pop("gradient"), expect.pop("gradient_l2_of_parts")
    compare(name, terms, {}, expect, precision)
    compare(name, {}, gradients(student, terms["total"]), whole, precision)
    for part, expected in parts.items():
        norms = {key: value.norm() for key, value in gradients(student, terms[part]).items()}
        compare(f"{name}: {part}", {}, norms, expected, precision)


def afc_objective(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    step, size, n, modality = inputs["step"], inputs["classes_per_step"], inputs["n"], inputs["modality"]
    old, labels = step * size, torch.tensor(inputs["labels"])
    tokens = golden.draw_clips(inputs["clips_seed"], n, inputs["spatial_tokens"], precision.dtype)
    student = golden.draw_network(inputs["student_seed"], modality, old, precision.dtype, ProxyLayer)
    teacher = golden.draw_teacher(student, inputs["teacher_seed"], inputs["teacher_mix"], old)
    student.grow(golden.new_layer(inputs["student_new_proxies_seed"], ProxyLayer, size))
    teacher.grow(golden.new_layer(inputs["teacher_new_proxies_seed"], ProxyLayer, size))
    assert isinstance(student.classifier, ProxyLayer)
    student.classifier.old.requires_grad_()  # the reference differentiates with respect to these too
    clips = StepClips(ResidentTokens(*tokens), labels)
    none = StepClips(ResidentTokens(None, None), labels[:0])
    config, settings = RunConfig(modality=modality), afc.AfcSettings(inputs["lam_disc"])
    context = context_of(step, size, clips, none, student, teacher, config, settings)
    features = afc.old_features(context, teacher)
    output, old_output = student(*tokens), teacher(*tokens)
    terms = afc.objective(context, features)(output, Batch(torch.arange(n), torch.arange(0), labels))
    weight = afc.distillation_weight(context)
    found = {
        "total": terms["nca"] + terms["distillation"],
        "nca_student": terms["nca"],
        "nca_teacher": losses.nca(old_output.logits, labels, 1.0, 0.6, on_target_only=False),
        "lambda_t": torch.tensor(weight / inputs["lam_disc"], dtype=torch.float64),
        "distillation": terms["distillation"] / weight,
    }
    if modality == "audio-visual":
        names = {"pooled": "pooled_visual", "audio": "audio", "visual": "visual"}
        norms = afc.gradient_norms(context, teacher, old_output, labels)
        now = {"pooled": output.pooled, "audio": output.audio, "visual": output.visual}
    else:
        names, norms, now = {"fused": ""}, {}, {"fused": output.fused}
    for key, suffix in names.items():
        feature, ending = now[key], f"_{suffix}" if suffix else ""
        assert feature is not None
        distance = (F.normalize(feature, dim=1) - features.features[key]).norm(dim=1)
        found[f"distance{ending}"] = distance
        found[f"importance{ending}"] = features.importance[key]
        found[f"distillation{ending}"] = (distance * features.importance[key]).mean()
    expect = dict(expect)
    at = expect.pop("gradient")
    norms = {f"grad_norm_{names[key]}": value for key, value in norms.items()}
    compare(name, found, norms, expect, precision)
    compare(name, {}, gradients(student, found["total"]), at, precision)


def context_of(
    step: int,
    size: int,
    current: StepClips,
    exemplars: StepClips,
    student: AudioVisualNetwork,
    teacher: AudioVisualNetwork | None,
    config: RunConfig,
    settings: Any,
) -> StepContext:
    return StepContext(
        step=step,
        tasks=tuple(range(k * size, (k + 1) * size) for k in range(step + 1)),
        current=current,
        exemplars=exemplars,
        student=student,
        teacher=teacher,
        head=NetworkHead(),
        exemplars_per_class=1,
        generator=torch.Generator(),
        config=config,
        settings=settings,
    )


def gradients(network: AudioVisualNetwork, loss: Tensor) -> dict[str, Tensor]:
    """By the reference's names; what the loss does not touch has a gradient of zero."""
    present = dict(network.named_parameters())
    wanted = {key: present[path] for key, path in golden.PARAMETERS.items() if path in present}
    found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
    return {
        key: torch.zeros_like(parameter) if gradient is None else gradient
        for (key, parameter), gradient in zip(wanted.items(), found, strict=True)
    }
