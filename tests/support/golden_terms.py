"""The loss functions on drawn tensors: entries of `losses.json` that need no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from support.golden import FRAMES, assert_close, normal, rng, tensor, unit_rows
from torch import Tensor

from avcil.train.methods import losses
from avcil.train.methods.proxies import ProxyLayer


@dataclass(frozen=True)
class Precision:
    """What is computed in, and how far values and gradients may be off."""

    dtype: torch.dtype
    values: float
    gradients: float


def cross_entropy(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    shape, scale = (inputs["n"], inputs["classes"]), inputs.get("logit_scale", 2.0)
    logits = tensor(normal(rng(inputs["seed"]), *shape, scale=scale), precision.dtype)
    assert_close(F.cross_entropy(logits, torch.tensor(inputs["labels"])), expect, precision.values, name)


def contrastive(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    generator, labels, tau = rng(inputs["seed"]), torch.tensor(inputs["labels"]), inputs["tau"]
    audio, visual = (
        tensor(unit_rows(normal(generator, inputs["n"], inputs["dim"])), precision.dtype).requires_grad_()
        for _ in range(2)
    )
    values = {
        "instance": losses.instance_contrast(audio, visual, tau),
        "class_released": losses.class_contrast(audio, visual, labels, tau, per_positive=False),
        "class_equation7": losses.class_contrast(audio, visual, labels, tau, per_positive=True),
    }
    for form, expected in expect.items():
        found = {"value": values[form]}
        at_audio, at_visual = torch.autograd.grad(values[form], (audio, visual))
        gradients = {"grad_audio_l2": at_audio.norm(), "grad_visual_l2": at_visual.norm()}
        compare(f"{name}: {form}", found, gradients, expected, precision)


def avcil_terms(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    """AV-CIL, SS-IL and LwF: separated or joint cross-entropy, distillation and the audio-visual terms."""
    n_current, size, step = inputs["n_current"], inputs["classes_per_step"], inputs["step"]
    n, old, dim = n_current + inputs["n_exemplar"], size * step, inputs["dim"]
    space, labels, generator = inputs["spatial_tokens"], torch.tensor(inputs["labels"]), rng(inputs["seed"])
    drawn = [normal(generator, n, old + size, scale=2), normal(generator, n, old, scale=2)]
    drawn += [unit_rows(normal(generator, n, dim)) for _ in range(2)]
    drawn += [normal(generator, n, FRAMES, space, dim) for _ in range(2)]
    drawn += [normal(generator, n, FRAMES, dim) for _ in range(2)]
    logits, teacher, audio, visual, spatial, old_spatial, temporal, old_temporal = (
        tensor(x, precision.dtype) for x in drawn
    )
    wanted = {"logits": logits, "fa": audio, "fv": visual, "spatial": spatial, "temporal": temporal}
    for x in wanted.values():
        x.requires_grad_()
    tasks = [range(k * size, (k + 1) * size) for k in range(step)]
    by_task = [losses.task_distillation(logits, teacher, [task], 2.0) for task in tasks]
    terms = {"kd": losses.task_distillation(logits, teacher, tasks, 2.0), "kd_tasks": torch.stack(by_task)}
    if name.startswith("LwF"):
        terms["ce"] = F.cross_entropy(logits[:, old:], labels - old)
    else:
        terms["ce_current"] = F.cross_entropy(logits[:n_current, old:], labels[:n_current] - old)
        terms["ce_exemplar"] = F.cross_entropy(logits[n_current:, :old], labels[n_current:])
        terms["ce_separated"] = losses.separated_cross_entropy(logits, labels, n_current, old)
    if "ce_joint" in expect:
        joint = labels.clone()
        if name.startswith("SS-IL"):  # the published program has reduced the current labels by then
            joint[:n_current] %= size
        terms["ce_joint"] = F.cross_entropy(logits, joint)
    summed = {"kd": 1.0, next(key for key in ("ce", "ce_joint", "ce_separated") if key in terms): 1.0}
    if inputs.get("instance_contrastive"):
        terms["instance_contrastive"] = losses.instance_contrast(audio, visual, 0.05)
        summed["instance_contrastive"] = 0.5
    if inputs.get("class_contrastive"):
        terms["class_contrastive"] = losses.class_contrast(audio, visual, labels, 0.05, per_positive=False)
        summed["class_contrastive"] = 1.0
    if inputs.get("attn_score_distil"):
        where = spatial.softmax(2)[n_current:], old_spatial.softmax(2)[n_current:]
        when = temporal.softmax(1)[n_current:], old_temporal.softmax(1)[n_current:]
        terms["spatial_distillation"] = losses.spatial_attention_distillation(*where)
        terms["temporal_distillation"] = losses.temporal_attention_distillation(*when)
        summed |= {"spatial_distillation": 0.5, "temporal_distillation": 0.5}
    terms["total"] = torch.stack([weight * terms[key] for key, weight in summed.items()]).sum()
    expect = dict(expect)
    at = expect.pop("grad_wrt")
    compare(name, terms, {}, expect, precision)
    gradients = torch.autograd.grad(terms["total"], [wanted[key] for key in at])
    compare(name, {}, dict(zip(at, gradients, strict=True)), at, precision)


def icarl(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    generator, labels, old = rng(inputs["seed"]), torch.tensor(inputs["labels"]), inputs["classes_old"]
    logits = tensor(normal(generator, inputs["n"], inputs["classes"], scale=2), precision.dtype)
    teacher = tensor(normal(generator, inputs["n"], old, scale=2), precision.dtype)
    logits.requires_grad_()
    found = {"step0_cross_entropy_only": F.cross_entropy(logits, labels)}
    gradients = {}
    for double, key, part, gradient in (
        (True, "released_double_sigmoid", "released_distillation_part", "grad_l2_released"),
        (False, "single_sigmoid", "single_sigmoid_distillation_part", "grad_l2_single"),
    ):
        found[part] = losses.binary_distillation(logits[:, :old], teacher, double_sigmoid=double)
        found[key] = found["step0_cross_entropy_only"] + found[part]
        gradients[gradient] = torch.autograd.grad(found[key], logits, retain_graph=True)[0].norm()
    compare(name, found, gradients, expect, precision)


def nca(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    shape, labels = (inputs["n"], inputs["classes"]), torch.tensor(inputs["labels"])
    similarities = tensor(normal(rng(inputs["seed"]), *shape, scale=0.5, shift=-1.5), precision.dtype)
    similarities.requires_grad_()
    value, without = (
        losses.nca(similarities, labels, inputs["scale"], margin, on_target_only=False)
        for margin in (inputs["margin"], 0.0)
    )
    (gradient,) = torch.autograd.grad(value, similarities)
    gradients = {"grad_l2": gradient.norm(), "grad_first_row": gradient[0]}
    compare(name, {"value": value, "value_margin_zero": without}, gradients, expect, precision)


def proxy_scores(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    generator, dim, classes = rng(inputs["seed"]), inputs["dim"], inputs["classes"]
    features = tensor(abs(normal(generator, inputs["n"], dim)), precision.dtype)
    head = ProxyLayer(dim, classes).to(precision.dtype)
    with torch.no_grad():
        head.new.copy_(tensor(normal(generator, inputs["proxies_per_class"] * classes, dim), precision.dtype))
    compare(name, {"logits": head(features)}, {}, expect, precision)


def compare(
    name: str,
    values: dict[str, Tensor],
    gradients: dict[str, Tensor],
    expect: dict[str, Any],
    precision: Precision,
) -> None:
    """Every expected key; one that nothing was computed for is a KeyError."""
    for key, expected in expect.items():
        tolerance = precision.gradients if key in gradients else precision.values
        assert_close((values | gradients)[key], expected, tolerance, f"{name}: {key}")
