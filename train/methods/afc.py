"""AFC (Kang et al., CVPR 2022) on proxies: NCA loss, and features are kept where the old loss needs them.

Of every clip the student's features are held to the teacher's, weighted by how strongly the teacher's loss
depends on each. Those weights are norms of gradients of a mean over the batch and then shares of their sum,
so they depend on the clip alone: like the features they are constants of the step, computed once.
The released program subtracts the margin from every similarity (`fidelity`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import require_weight
from avcil.train.methods import losses
from avcil.train.methods.kmeans import kmeans
from avcil.train.methods.method import Batch, Method, Objective, StepContext
from avcil.train.methods.nearest_mean import NearestMean, herd_exemplars
from avcil.train.methods.proxies import PROXIES_PER_CLASS, ProxyHead, ProxyLayer
from avcil.train.network.inference import outputs
from avcil.train.network.model import AudioVisualNetwork, NetworkOutput


@dataclass(frozen=True)
class AfcSettings:
    """Weights; `margin` as in PODNet (Douillard et al., ECCV 2020).

    The feature distillation is weighted by `lambda_distillation * sqrt(t + 1)` at step t (counted from 0).
    """

    lambda_distillation: float = 0.5
    margin: float = 0.6

    def __post_init__(self) -> None:
        require_weight("method.lambda_distillation", self.lambda_distillation)
        require_weight("method.margin", self.margin)


@dataclass(frozen=True)
class OldFeatures:
    """What the old network makes of the n clips of a step.

    Attributes:
        features: by name, [n, D] of unit length: pooled, audio and visual, or fused for a single modality.
        importance: by the same names, [n]; those of a clip add up to 1.
    """

    features: dict[str, Tensor]
    importance: dict[str, Tensor]


def prepare(context: StepContext) -> Objective:
    """NCA; after step 0 with distillation of features, and with new proxies amid the clips they stand for.

    The teacher is the student before it gets those proxies: the old network with the new classes' proxies
    still random.
    """
    if context.teacher is None:
        return objective(context, None)
    old = old_features(context, context.student)
    imprint_proxies(context)
    return objective(context, old)


def objective(context: StepContext, old: OldFeatures | None) -> Objective:
    """The loss of a batch; `old` are the features of `context.current`, None at step 0."""
    layer, weight = _proxies(context.student), distillation_weight(context)

    def loss(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        terms = {"nca": _nca(context, output.logits, batch.labels, layer.scale)}
        if old is not None:
            rows = batch.current
            distances = [
                losses.weighted_distance(feature, old.features[name][rows], old.importance[name][rows])
                for name, feature in _unit_features(output).items()
            ]
            terms["distillation"] = weight * batch.against_teacher(torch.stack(distances).sum())
        return terms

    return loss


def distillation_weight(context: StepContext) -> float:
    """Grows with the steps: lambda * sqrt(t + 1)."""
    settings: AfcSettings = context.settings
    return settings.lambda_distillation * math.sqrt(context.step + 1)


def old_features(context: StepContext, teacher: AudioVisualNetwork) -> OldFeatures:
    """Features and importance of all clips of the step."""
    features, importance = [], []
    labels = context.current.labels
    for rows, output in outputs(teacher, context.current.tokens):
        features.append(_unit_features(output))
        importance.append(_importance(context, teacher, output, labels[rows.to(labels.device)]))
    return OldFeatures(_joined(features), _joined(importance))


def gradient_norms(
    context: StepContext, teacher: AudioVisualNetwork, output: NetworkOutput, labels: Tensor
) -> dict[str, Tensor]:
    """Norms [B] of the gradients of the teacher's loss, a mean over B clips, at the three features of each.

    As fused = audio + visual, the gradient at both is that at fused; at pooled it has gone down through the
    rectifier and one layer.
    """
    head = _proxies(teacher)
    assert output.visual is not None
    with torch.enable_grad():
        fused = output.fused.detach().requires_grad_()
        (at_fused,) = torch.autograd.grad(_nca(context, head(fused), labels, head.scale), fused)
    at_pooled = (at_fused * (output.visual > 0)) @ teacher.visual_projection.weight.detach()
    return {"pooled": at_pooled.norm(dim=1), "audio": at_fused.norm(dim=1), "visual": at_fused.norm(dim=1)}


@torch.no_grad()
def imprint_proxies(context: StepContext) -> None:
    """Put the student's new proxies at the k-means centres of each new class, as long as the old ones are."""
    features, labels, head = context.unit_features(), context.labels, _proxies(context.student)
    centres = [
        kmeans(features[labels == column], PROXIES_PER_CLASS, context.generator)
        for column in context.tasks[context.step]
    ]
    head.new.copy_(torch.cat(centres) * head.old.norm(dim=1).mean())


def _importance(
    context: StepContext, teacher: AudioVisualNetwork, output: NetworkOutput, labels: Tensor
) -> dict[str, Tensor]:
    if teacher.shape.modality != "audio-visual":
        return {"fused": torch.ones_like(output.fused[:, 0])}
    norms = gradient_norms(context, teacher, output, labels)
    total = torch.stack(list(norms.values())).sum(dim=0)
    return {name: norm / total for name, norm in norms.items()}


def _unit_features(output: NetworkOutput) -> dict[str, Tensor]:
    features = {"pooled": output.pooled, "audio": output.audio, "visual": output.visual}
    if output.audio is None or output.visual is None:
        features = {"fused": output.fused}
    return {name: F.normalize(feature, dim=1) for name, feature in features.items() if feature is not None}


def _nca(context: StepContext, scores: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    settings: AfcSettings = context.settings
    return losses.nca(scores, labels, scale, settings.margin, on_target_only=not context.released)


def _proxies(network: AudioVisualNetwork) -> ProxyLayer:
    assert isinstance(network.classifier, ProxyLayer)
    return network.classifier


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


AFC_LSC = Method(
    name="afc-lsc",
    title="AFC-LSC",
    prepare=prepare,
    settings=AfcSettings,
    layer=ProxyLayer,
    head=ProxyHead,
    replay="joined",
    choose=herd_exemplars,
)
AFC_NME = replace(AFC_LSC, name="afc-nme", title="AFC-NME", head=NearestMean)
