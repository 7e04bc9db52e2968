"""Every loss, objective, exemplar choice and metric of the reference set; an unknown entry is a failure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from support import golden, golden_objectives, golden_terms
from support.golden import assert_close, load_golden, normal, rng, tensor, unit_rows
from support.golden_terms import Precision
from torch import Tensor

from avcil.train.config import RunConfig
from avcil.train.methods.head import NetworkHead
from avcil.train.methods.method import NoSettings, StepContext
from avcil.train.methods.nearest_mean import NearestMean, herd_exemplars
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.record import metrics
from avcil.train.tokens.batches import ResidentTokens, StepClips

ENTRIES = load_golden("losses")
PRECISIONS = {
    "float64": Precision(torch.float64, 1e-9, 1e-8),
    "float32": Precision(torch.float32, 5e-6, 2e-4),
}


@dataclass(frozen=True)
class GivenFeatures(StepContext):
    """A step whose features are drawn, not computed."""

    features: Tensor

    def unit_features(self) -> Tensor:
        return self.features


def given(features: Tensor, labels: list[int], tasks: list[range], m: int) -> GivenFeatures:
    none = ResidentTokens(None, None)
    return GivenFeatures(
        step=len(tasks) - 1,
        tasks=tuple(tasks),
        current=StepClips(none, torch.tensor(labels)),
        exemplars=StepClips(none, torch.tensor([], dtype=torch.long)),
        student=AudioVisualNetwork(NetworkShape("audio", 1, 1, 1)),
        teacher=None,
        head=NetworkHead(),
        exemplars_per_class=m,
        generator=torch.Generator(),
        config=RunConfig(),
        settings=NoSettings(),
        features=features,
    )


def class_features(inputs: dict[str, Any]) -> list[np.ndarray]:
    generator, dim = rng(inputs["seed"]), inputs["dim"]
    if inputs["kind"] == "random":
        return [unit_rows(normal(generator, size, dim, shift=0.5)) for size in inputs["class_sizes"]]
    drawn = []
    for size in inputs["class_sizes"]:
        centre = generator.standard_normal(dim)
        centre /= np.linalg.norm(centre)
        x = centre + 0.6 * generator.standard_normal((size, dim)) / np.sqrt(dim)
        x[0] = centre + 0.02 * generator.standard_normal(dim) / np.sqrt(dim)
        drawn.append((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
    return drawn


def herding(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    """One step, or two, the second with the shortened lists of the first in its memory."""
    drawn, sizes = class_features(inputs), inputs["class_sizes"]
    features, classes = tensor(np.concatenate(drawn), precision.dtype), range(len(sizes))
    labels = np.repeat(classes, sizes).tolist()
    second = "m_second_step" in inputs
    old = len(sizes) // 2 if second else len(sizes)
    first = sum(sizes[:old])
    m = inputs["m_first_step"] if second else inputs["m"]
    context = given(features[:first], labels[:first], [range(old)], m)
    kept = [rows.tolist() for rows in herd_exemplars(context)]
    found = {"first_step_indices" if second else "indices": padded(kept, m)}
    if second:
        memory, m = [row for rows in kept for row in rows], inputs["m_second_step"]
        rows = [*range(first, len(labels)), *memory]
        tasks = [range(old), range(old, len(sizes))]
        context = given(features[rows], [labels[row] for row in rows], tasks, m)
        lists = [[rows[place] for place in places.tolist()] for places in herd_exemplars(context)]
        found["second_step_indices"] = padded(lists, m)
    means = NearestMean().grow(context).class_means
    for key, expected in expect.items():
        if key == "class_means":
            assert_close(means, expected, precision.values, f"{name}: {key}")
        else:
            assert found[key] == expected, f"{name}: {key}"


def padded(lists: list[list[int]], m: int) -> list[list[int | None]]:
    return [[*rows, *[None] * (m - len(rows))] for rows in lists]


def nearest_mean(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    generator, dim = rng(inputs["seed"]), inputs["dim"]
    features = tensor(normal(generator, inputs["n"], dim, shift=0.3), precision.dtype)
    means = tensor(normal(generator, inputs["classes"], dim, scale=0.2, shift=0.1), precision.dtype)
    predicted = NearestMean(means).nearness(features).argmax(dim=1)
    assert {"predictions": predicted.tolist()} == expect, name


def accuracies(name: str, inputs: dict[str, Any], expect: Any, precision: Precision) -> None:
    size, labels = inputs["classes_per_step"], np.array(inputs["test_labels"])
    matrix, over_steps = [], []
    for step, predicted in enumerate(inputs["predictions"]):
        tasks = [range(k * size, (k + 1) * size) for k in range(step + 1)]
        true: list[Any] = labels[labels < (step + 1) * size].tolist()
        matrix.append(metrics.task_accuracy(predicted, true, tasks))
        over_steps.append(metrics.accuracy(predicted, true))
    best = [[max(row[i] for row in matrix[i : t + 1]) for i in range(t + 1)] for t in range(len(matrix))]
    for step, expected in enumerate(expect["steps"]):
        found = {
            "accuracy": over_steps[step],
            "task_accuracy": matrix[step],
            "forgetting": metrics.forgetting(matrix)[step],
            "best_so_far_after_step": best[step],
        }
        for key, value in expected.items():
            assert found[key] == pytest.approx(value), f"{name}: step {step}, {key}"
    assert set(expect) == {"steps", "average_forgetting", "mean_accuracy"}
    assert metrics.average_forgetting(matrix) == pytest.approx(expect["average_forgetting"])
    assert metrics.mean_accuracy(over_steps) == pytest.approx(expect["mean_accuracy"])


Check = Callable[[str, dict[str, Any], Any, Precision], None]
CHECKS: dict[str, Check] = {  # by how an entry's name begins
    "cross_entropy": golden_terms.cross_entropy,
    "contrastive": golden_terms.contrastive,
    "AV-CIL terms on tensors": golden_terms.avcil_terms,
    "AV-CIL on tensors": golden_terms.avcil_terms,
    "SS-IL on tensors": golden_terms.avcil_terms,
    "LwF on tensors": golden_terms.avcil_terms,
    "iCaRL loss": golden_terms.icarl,
    "AFC NCA": golden_terms.nca,
    "LSC classifier": golden_terms.proxy_scores,
    "AV-CIL objective": golden_objectives.avcil,
    "SS-IL objective": golden_objectives.avcil,
    "AFC objective": golden_objectives.afc_objective,
    "herding": herding,
    "nearest mean": nearest_mean,
    "metrics": accuracies,
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ENTRIES)
def test_entry(name: str, precision: str) -> None:
    check = next((check for start, check in CHECKS.items() if name.startswith(start)), None)
    assert check is not None and set(ENTRIES[name]) <= golden.ENTRY, f"no check knows the entry {name!r}"
    check(name, ENTRIES[name]["inputs"], ENTRIES[name]["expect"], PRECISIONS[precision])
    golden.CHECKED[f"losses entries in {precision}"] += 1


def test_every_file_is_understood() -> None:
    names = {path.name.split(".json")[0] for path in golden.golden_folder().glob("*.json*")}
    assert names and names <= set(golden.FILES)
