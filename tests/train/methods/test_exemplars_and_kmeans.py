"""Choosing exemplars and imprinting proxies, against slow and obvious ways."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods import losses
from avcil.train.methods.exemplars import herd, herding
from avcil.train.methods.kmeans import kmeans


def slowly(features: Tensor, m: int, repeats: bool) -> list[int]:
    mean, picked = features.mean(dim=0), []
    for _ in range(min(m, len(features))):
        distances = [
            float((mean - features[[*picked, j]].mean(dim=0)).norm())
            if repeats or j not in picked
            else float("inf")
            for j in range(len(features))
        ]
        picked.append(min(range(len(features)), key=distances.__getitem__))
    return picked


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize(("n", "m"), [(30, 20), (4, 9), (1, 1), (5, 0)])
def test_herding_is_the_definition(n: int, m: int, repeats: bool) -> None:
    features = F.normalize(
        torch.randn(n, 7, generator=torch.Generator().manual_seed(n)).double() + 0.5, dim=1
    )
    assert herding(features, m, repeats=repeats).tolist() == slowly(features, m, repeats)


def test_of_equal_clips_the_first_is_picked() -> None:
    features = F.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    twice = torch.cat([features, features])
    assert all(row < 3 for row in herding(twice, 4, repeats=True).tolist())
    assert sorted(herding(twice, 6, repeats=False).tolist()) == list(range(6))
    assert herding(torch.eye(2), 1, repeats=True).tolist() == [0]  # both are as near


def test_old_classes_keep_the_beginning_of_their_list() -> None:
    features = F.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    labels = torch.tensor([1, 1, 1, 1, 1, 0, 0, 0, 0])  # current clips of column 1, then a memory of column 0
    kept = herd(features, labels, 2, range(1, 2), 3, repeats=False)
    assert kept[0].tolist() == [5, 6, 7] and kept[1].tolist() == slowly(features[:5].double(), 3, False)


def test_as_many_points_as_clusters_are_the_centres() -> None:
    points = torch.randn(10, 6)
    assert torch.equal(kmeans(points, 10, torch.Generator()), points)
    assert torch.equal(kmeans(points[:4], 10, torch.Generator())[:8], torch.cat([points[:4]] * 2))


def test_centres_are_found_whatever_the_seed() -> None:
    centres = 10 * torch.eye(4, 6)
    points = centres.repeat_interleave(9, dim=0) + torch.randn(36, 6) * 0.1
    for seed in range(5):
        found = kmeans(points, 4, torch.Generator().manual_seed(seed))
        means = points.reshape(4, 9, 6).mean(dim=1)
        assert torch.allclose(found[found.argmax(dim=1).argsort()], means, atol=1e-5)


def test_points_that_are_all_alike_have_centres_too() -> None:
    assert torch.equal(kmeans(torch.ones(12, 3), 10, torch.Generator()), torch.ones(10, 3))


def test_the_margin_counts_on_the_target_only() -> None:
    similarities, labels = torch.randn(5, 4).double(), torch.tensor([0, 3, 1, 1, 2])
    expected = []
    for row, label in zip(similarities, labels, strict=True):
        z = 1.5 * row
        z[label] -= 1.5 * 0.6
        others = torch.stack([z[j] - z.max() for j in range(4) if j != label]).exp().sum()
        expected.append(-(z[label] - z.max()) + torch.log(1 + others))
    found = losses.nca(similarities, labels, 1.5, 0.6, on_target_only=True)
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()), abs=1e-12)
    assert float(found) > float(losses.nca(similarities, labels, 1.5, 0.6, on_target_only=False))
