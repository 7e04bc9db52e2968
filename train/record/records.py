"""Owns what is recorded of a run and of each of its steps, as values; knows no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avcil.train.loop import EpochRecord
from avcil.train.record.environment import Environment
from avcil.train.record.step_costs import PeakMemory, Stage


@dataclass(frozen=True)
class RunFacts:
    """What a run was made from, beside its configuration.

    Attributes:
        caches: where the tokens were, absolute paths.
        cache_fingerprint: of the tokens and labels; what a cache is recognised by.
        tokens: what the cache says of itself, `CacheInfo.content`: with it new videos need no cache.
        classes: labels in the order they are learnt.
        step_sizes: classes of every step.
        memory: exemplars in total.
        method_title: what people call the method.
        method_defaults: settings that the method has where none are given, by name.
        environment: what the run was begun with.
    """

    caches: tuple[str, ...]
    cache_fingerprint: str
    tokens: dict[str, Any]
    classes: tuple[str, ...]
    step_sizes: tuple[int, ...]
    memory: int
    method_title: str
    method_defaults: dict[str, Any]
    environment: Environment


@dataclass(frozen=True)
class StepRecord:
    """What training recorded of one step.

    Attributes:
        step: t, from 0.
        train_clips: number of clips that drove the epochs; those of the memory are among them where the
            method joins the two.
        exemplars: clip ids of the memory that was replayed, by class label.
        kept: clip ids that the method chose for the next step's memory, by class label; empty where the
            exemplars are drawn at random before each step.
        best_epoch: the selected epoch, from 0; -1 when the method fitted nothing.
        epochs: losses and validation accuracy of every epoch.
        predicted: predicted column of every test clip of all classes seen, in set order.
        true: its true column.
        seconds: wall time of the step.
        stages: how much of it went into what, in seconds.
        peak_memory: the most it held at once.
    """

    step: int
    train_clips: int
    exemplars: dict[str, list[str]]
    kept: dict[str, list[str]]
    best_epoch: int
    epochs: list[EpochRecord]
    predicted: list[int]
    true: list[int]
    seconds: float
    stages: dict[Stage, float]
    peak_memory: PeakMemory
