"""The default head: what it chooses on the first step's clips, and that it keeps to it."""

import pytest
import torch
from torch import Tensor

from avcil.train.methods.statistics.best import SQUASH, BestHead, BestSettings

GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def small_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avcil.train.methods.statistics.best.KERNEL_DIMENSIONS", 300)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def clusters(classes: int, clips: int, width: int = 12, apart: float = 4.0) -> tuple[list[Tensor], Tensor]:
    """Sound and picture around means of their own, class by class."""
    labels = torch.arange(classes).repeat_interleave(clips)
    return [
        apart / width**0.5 * normal(classes, width)[labels] + normal(len(labels), width) for _ in "av"
    ], labels


def pairs(clips: int, width: int = 8) -> tuple[list[Tensor], Tensor]:
    """Four sounds and four pictures; the class is the sum of their numbers modulo 4: neither alone tells."""
    sound, sight = 4 * normal(4, width), 4 * normal(4, width)
    labels = torch.arange(4).repeat_interleave(clips)
    first = torch.arange(len(labels)) % 4
    second = (labels - first) % 4
    streams = [sound[first] + normal(len(labels), width), sight[second] + normal(len(labels), width)]
    return streams, labels


def learned(streams: list[Tensor], labels: Tensor, classes: int) -> BestHead:
    head = BestHead(settings=BestSettings()).learned(streams, labels, classes, seed=1)
    assert isinstance(head, BestHead)
    return head


def test_classes_with_means_of_their_own_are_told_apart_linearly() -> None:
    head = learned(*clusters(4, 20), 4)
    assert not head.kept["is_kernel"] and float(head.kept["squash"]) in (0.0, SQUASH)
    assert "1.weight" in head.kept and "0.width" not in head.kept


def test_classes_that_are_pairs_need_the_kernel() -> None:
    streams, labels = pairs(40)
    fitted = torch.rand(len(labels), generator=GENERATOR) < 0.8
    head = learned([x[fitted] for x in streams], labels[fitted], 4)
    assert head.kept["is_kernel"]
    right = head.scores_of([x[~fitted] for x in streams]).argmax(dim=1) == labels[~fitted]
    assert right.double().mean() > 0.8


def test_heavy_tails_are_squashed() -> None:
    streams, labels = clusters(4, 20)
    wild = [x / torch.rand(len(x), 1, dtype=torch.float64, generator=GENERATOR) ** 2 for x in streams]
    assert float(learned(wild, labels, 4).kept["squash"]) == SQUASH


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_few_clips_of_many_dimensions(clips: int) -> None:
    streams, labels = clusters(3, clips, width=40, apart=20.0)
    head = learned(streams, labels, 3)
    assert not head.kept["is_kernel"]
    assert (head.scores_of(streams).argmax(dim=1) == labels).all()


def test_later_steps_keep_the_choice_and_add_up() -> None:
    """Two steps give what one with the same first clips gives: the sums are exact."""
    streams, labels = clusters(6, 10)
    first, later = labels < 3, labels >= 3
    head = learned([x[first] for x in streams], labels[first], 3)
    stepwise = head.learned([x[later] for x in streams], labels[later], 6, seed=1)
    order = torch.randperm(len(labels), generator=GENERATOR)
    begun = head.begun([x[first] for x in streams], labels[first], 3, 1)
    at_once = begun.learned([x[order] for x in streams], labels[order], 6, seed=1)
    test = [normal(50, x.shape[1]) for x in streams]
    difference = stepwise.scores_of(test) - at_once.scores_of(test)
    assert difference.abs().max() < 1e-8 * stepwise.scores_of(test).abs().max()
    assert stepwise.kept["squash"] == head.kept["squash"]
