"""The choice of exemplars: at random among clip ids, or by herding among features."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from avcil.train.protocol import Protocol

TIE = 1e-10  # of squared distances between unit features in float64, whose rounding is far below


def random_exemplars(
    protocol: Protocol, train: Sequence[Sequence[str]], seed: int, step: int
) -> dict[int, tuple[str, ...]]:
    """The random memory of a step, {column: clip ids}; that of step 0 is empty.

    Old classes keep a prefix of their list as m shrinks; a class with fewer than m clips keeps all. The
    draws are those of Python's `random.seed(seed)` followed by one `random.sample` per class, classes in
    column order, so that a published seed selects the published exemplars. Nothing of `step` itself or of
    later steps is used: a class's draw depends on how many clips and exemplars the classes before it have.

    Args:
        protocol: classes, steps and memory budget.
        train: training clip ids by column, of all classes of earlier steps.
        seed: the run's seed.
        step: t, from 0.
    """
    generator = random.Random(seed)
    memory: dict[int, tuple[str, ...]] = {}
    for earlier, task in enumerate(protocol.tasks[:step]):
        m = protocol.exemplars_per_class(protocol.seen(earlier))
        memory = {column: ids[:m] for column, ids in memory.items()}
        for column in task:
            memory[column] = tuple(generator.sample(list(train[column]), min(len(train[column]), m)))
    return memory


def herding(features: Tensor, m: int, *, repeats: bool) -> Tensor:
    """Pick clips one by one so that the mean of those picked stays closest to the mean of all.

    Pick i is the argmin over j of |mu - (sum of picked + x_j) / (i + 1)|, of equals the first (iCaRL,
    Algorithm 4). |.|^2 is, up to what all j share, |x_j|^2 + 2 x_j . (sum of picked - (i + 1) mu), so the
    clips' inner products are all that is needed and a pick costs O(n), not O(n D).

    Args:
        features: [n, D] of one class, unit length.
        m: how many to pick; all n when there are fewer.
        repeats: a clip that was picked stays a candidate, as in the published program.

    Returns:
        [min(m, n)] rows in the order they were picked.
    """
    exact = features.double()
    products = exact @ exact.T
    squares, to_mean = products.diagonal(), products.mean(dim=1)
    to_picked, taken = torch.zeros_like(squares), torch.zeros_like(squares)
    picks = []
    for i in range(min(m, len(features))):
        distance = squares + 2 * (to_picked - (i + 1) * to_mean) + taken
        pick = (distance <= distance.min() + TIE).int().argmax(dim=0, keepdim=True)
        picks.append(pick)
        to_picked = to_picked + products[pick].squeeze(0)
        if not repeats:
            taken.index_fill_(0, pick, torch.inf)
    return torch.cat(picks) if picks else torch.zeros(0, dtype=torch.long, device=features.device)


def herd(
    features: Tensor, labels: Tensor, classes: int, new: range, m: int, *, repeats: bool
) -> list[Tensor]:
    """The rows that every class keeps.

    Args:
        features: [n, D] of the clips of the step and of the exemplars so far, unit length.
        labels: [n] their columns.
        classes: number of classes seen.
        new: columns of the step's classes: they are herded; the others keep the first m of their list.
        m: exemplars per class.
        repeats: see `herding`.
    """
    kept = []
    for column in range(classes):
        rows = (labels == column).nonzero().squeeze(1)
        kept.append(rows[herding(features[rows], m, repeats=repeats)] if column in new else rows[:m])
    return kept
