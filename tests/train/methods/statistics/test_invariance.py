"""What must not matter to statistics heads, and clips that are few, dependent, constant or many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avcil.train.methods import find_method
from avcil.train.methods.statistics.head import StatisticsHead

HEADS: dict[str, dict[str, Any]] = {
    "ncm": {},
    "slda": {},
    "slda of least error": {"shrinkage": "least-error", "shrink_means": True, "fusion": "late"},
    "best": {},
    "klda": {"dimensions": 40},
    "fecam": {},
    "fecam of lengths": {"unit": False},
    "fecam shared": {"covariance": "shared", "unit": False},
    "ranpac": {"dimensions": 40},
    "acil": {"dimensions": 40},
    "air": {"dimensions": 40},
    "dsal": {"dimensions": 40},
    "mmal": {"dimensions": 40},
}
STEP_MATTERS = {"dsal", "mmal"}  # what a regression leaves over of a step depends on the steps before
every_head = pytest.mark.parametrize("which", HEADS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avcil.train.methods.statistics.best.KERNEL_DIMENSIONS", 40)
    monkeypatch.setattr("avcil.train.methods.statistics.regression.MOST_CLIPS", 200)


def head(which: str) -> StatisticsHead:
    method, settings = find_method(which.split()[0]).configured(HEADS[which])
    made = method.head(settings=settings)
    assert isinstance(made, StatisticsHead)
    return made


def made_up(
    counts: list[int], widths: tuple[int, ...] = (6, 9), seed: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Streams of clips around well separated class means, class by class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [2 * normal(len(counts), p)[labels] + normal(len(labels), p) for p in widths], labels


def given(which: StatisticsHead, streams: list[Tensor]) -> list[Tensor]:
    return streams if which.settings.fusion == "late" else [torch.cat(streams, dim=1)]


def in_steps(
    which: str, streams: list[Tensor], labels: Tensor, steps: list[list[int]], *, shuffled: int = 0
) -> StatisticsHead:
    """The head after steps that bring the clips of these classes, or their order shuffled within a step."""
    found, seen = head(which), 0
    for classes in steps:
        rows = torch.cat([(labels == column).nonzero().squeeze(1) for column in classes])
        if shuffled:
            rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(shuffled))]
        seen = max(seen, max(classes) + 1)
        found = found.learned(given(found, [x[rows] for x in streams]), labels[rows], seen, seed=1)
    return found


def check(one: StatisticsHead, other: StatisticsHead, columns: Tensor | None = None) -> None:
    """Their scores agree to 1e-8; `columns` are those of the other."""
    streams, _ = made_up([3] * 6, seed=9)
    scores = one.scores_of(given(one, streams))
    others = other.scores_of(given(other, streams))
    others = others if columns is None else others[:, columns]
    assert (scores - others).abs().max() <= 1e-8 * scores.abs().max()


@every_head
def test_the_order_of_clips_does_not_matter(which: str) -> None:
    streams, labels = made_up([7, 11, 6, 9, 1, 12])
    steps = [[0, 1], [2, 3], [4, 5]]
    check(
        in_steps(which, streams, labels, steps, shuffled=1),
        in_steps(which, streams, labels, steps, shuffled=2),
    )


@pytest.mark.parametrize("which", [one for one in HEADS if one not in STEP_MATTERS])
def test_the_order_of_later_classes_does_not_matter(which: str) -> None:
    """The first step standardises features; those of later steps may come in any order."""
    streams, labels = made_up([7, 11, 6, 9, 1, 12])
    column = torch.tensor([0, 1, 4, 5, 2, 3])  # of the classes when the last two steps are exchanged
    check(
        in_steps(which, streams, labels, [[0, 1], [2, 3], [4, 5]]),
        in_steps(which, streams, column[labels], [[0, 1], [2, 3], [4, 5]]),
        column,
    )


@pytest.mark.parametrize("which", [one for one in HEADS if one not in STEP_MATTERS | {"ranpac"}])
def test_steps_do_not_matter(which: str) -> None:
    """After the first step, where no later step chooses a ridge or takes what is left over."""
    streams, labels = made_up([7, 11, 6, 9, 1, 12])
    check(
        in_steps(which, streams, labels, [[0, 1], [2], [3, 4], [5]]),
        in_steps(which, streams, labels, [[0, 1], [2, 3, 4, 5]]),
    )


@every_head
@pytest.mark.parametrize("counts", [[1, 1], [2, 1], [2, 2], [1, 40]])
def test_few_clips(which: str, counts: list[int]) -> None:
    """One clip a class, fewer clips than dimensions, and one step of a single class after them."""
    streams, labels = made_up([*counts, 1, 3, 1], widths=(15, 30))
    streams = [4 * x for x in streams]
    found = in_steps(which, streams, labels, [[0, 1], [2, 3], [4]])
    scores = found.scores_of(given(found, streams))
    assert scores.isfinite().all()
    dominated = which == "fecam" and 40 in counts  # the mean of nearly all clips has no direction
    assert (scores.argmax(dim=1) == labels).double().mean() >= (0.6 if dominated else 0.8)


@every_head
def test_one_clip_at_all(which: str) -> None:
    streams, labels = made_up([1])
    found = in_steps(which, streams, labels, [[0]])
    assert found.scores_of(given(found, streams)).isfinite().all()


@every_head
def test_dependent_and_constant_features(which: str) -> None:
    """Of rank 3 of 9, four of them constant; some only in the first step."""
    (audio, visual), labels = made_up([8, 6, 7, 9])
    visual = torch.cat([visual[:, :3], visual[:, :3] * 2, torch.full_like(visual[:, :4], 5.0)], dim=1)
    visual[labels >= 2, -1] += torch.arange(int((labels >= 2).sum())).double()
    streams = [audio, visual]
    found = in_steps(which, streams, labels, [[0, 1], [2, 3]])
    scores = found.scores_of(given(found, streams))
    assert scores.isfinite().all()
    assert (scores.argmax(dim=1) == labels).double().mean() > 0.6


@every_head
def test_all_clips_the_same(which: str) -> None:
    streams, labels = [torch.ones(6, 4).double(), torch.zeros(6, 3).double()], torch.arange(6) // 2
    found = in_steps(which, streams, labels, [[0, 1], [2]])
    assert found.scores_of(given(found, streams)).isfinite().all()


@every_head
def test_a_class_of_five_thousand(which: str) -> None:
    streams, labels = made_up([4, 5000, 3])
    found = in_steps(which, streams, labels, [[0, 1], [2]])
    right = found.scores_of(given(found, streams)).argmax(dim=1) == labels
    assert right[labels == 1].double().mean() > (0.5 if which == "fecam" else 0.9)
    if which == "air":
        assert right[labels != 1].all()


def test_balanced_ridge_hears_the_small_class() -> None:
    """Beside a class of a hundred times the clips plain ridge regression forgets what few clips say."""
    streams, labels = made_up([2000, 20])
    test, truth = made_up([200, 200])
    right = {}
    for which in ("acil", "air"):
        found = in_steps(which, [0.3 * x for x in streams], labels, [[0, 1]])
        scores = found.scores_of(given(found, [0.3 * x for x in test]))
        right[which] = float((scores.argmax(dim=1) == truth)[truth == 1].double().mean())
    assert right["air"] >= right["acil"]


@pytest.mark.parametrize("name", ["dsal", "mmal"])
def test_fusion_is_part_of_the_method(name: str) -> None:
    from avcil.errors import ConfigError

    with pytest.raises(ConfigError, match=r"method\.fusion = .*choose one of"):
        find_method(name).configured({"fusion": "late" if name == "dsal" else "joint"})


def test_settings_that_make_no_sense_are_refused() -> None:
    from avcil.errors import ConfigError

    for name, settings, message in (
        ("fecam", {"alpha1": 1.0, "alpha2": 2.0}, r"method\.alpha2 = 2\.0; it must not exceed"),
        ("fecam", {"power": 0.0}, r"method\.power = 0\.0; it must be positive"),
        ("acil", {"ridge": -1.0}, r"method\.ridge = -1\.0"),
        ("ranpac", {"dimensions": 0}, r"method\.dimensions = 0; it must be at least 1"),
        ("dsal", {"compensation": -0.1}, r"method\.compensation = -0\.1"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_method(name).configured(settings)
