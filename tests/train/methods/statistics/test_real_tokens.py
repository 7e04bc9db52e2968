"""Statistics heads on tokens of real encoders, 16 classes in which sound and picture are needed both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avcil.train.methods import find_method
from avcil.train.methods.statistics.head import StatisticsHead

STEPS, CLASSES = 4, 16
FOLDER = os.environ.get("AVCIL_TEST_TOKENS", "")
pytestmark = pytest.mark.skipif(
    not (Path(FOLDER) / "ring16.npz").is_file() if FOLDER else True,
    reason="needs ring16.npz in the folder that AVCIL_TEST_TOKENS names",
)


@pytest.fixture(scope="module")
def clips() -> tuple[list[Tensor], Tensor, Tensor]:
    """Streams, columns, and which clips are for training; the others are for test."""
    with np.load(Path(FOLDER) / "ring16.npz") as stored:
        visual = torch.from_numpy(stored["visual"].astype(np.float64)).flatten(1, 2)
        audio = torch.from_numpy(stored["audio"].astype(np.float64))
        labels, split = torch.from_numpy(stored["label"].astype(np.int64)), stored["split"].astype(str)
    pooled = torch.cat([visual.mean(dim=1), visual.std(dim=1, correction=0)], dim=1)
    used = torch.from_numpy(split != "val")
    return [audio[used], pooled[used]], labels[used], torch.from_numpy(split == "train")[used]


def mean_accuracy(name: str, clips: tuple[list[Tensor], Tensor, Tensor], **settings: Any) -> float:
    """In percent, over the steps."""
    streams, labels, train = clips
    method, complete = find_method(name).configured(settings)
    head = method.head(settings=complete)
    assert isinstance(head, StatisticsHead)
    streams = streams if complete.fusion == "late" else [torch.cat(streams, dim=1)]
    per_step, accuracy = CLASSES // STEPS, []
    for step in range(STEPS):
        seen = (step + 1) * per_step
        rows, test = train & (labels // per_step == step), ~train & (labels < seen)
        head = head.learned([x[rows] for x in streams], labels[rows], seen, seed=42)
        right = head.scores_of([x[test] for x in streams]).argmax(dim=1) == labels[test]
        accuracy.append(float(right.double().mean()))
    return 100 * sum(accuracy) / STEPS


def test_every_head_is_far_above_guessing(clips: tuple[list[Tensor], Tensor, Tensor]) -> None:
    """Guessing is right for 13 % on average; sound alone or a picture alone for about half of the clips."""
    for name in ("ncm", "slda", "klda", "ranpac", "acil", "air", "dsal", "mmal"):
        sizes = {} if name in ("ncm", "slda") else {"dimensions": 600}
        assert mean_accuracy(name, clips, **sizes) > 65, name
    assert mean_accuracy("fecam", clips, covariance="shared", unit=False) > 65


def test_the_default_head_is_above_the_nearest_class_mean(clips: tuple[list[Tensor], Tensor, Tensor]) -> None:
    assert mean_accuracy("best", clips) > mean_accuracy("ncm", clips) + 6
