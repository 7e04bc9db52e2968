"""Owns what a method is: what it sees, what it prepares at a step's start, the loss of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from avcil.train.config import Modality, RunConfig
from avcil.train.model import AudioVisualNetwork, NetworkOutput
from avcil.train.step_data import StepClips

ALL_MODALITIES: tuple[Modality, ...] = ("audio-visual", "audio", "visual")


@dataclass(frozen=True)
class StepContext:
    """What a method may look at when a step begins.

    Attributes:
        step: t, counted from 0.
        tasks: classifier columns of every step up to and including this one.
        current: the clips that drive the epoch.
        exemplars: the memory; empty at step 0 and for methods without one.
        teacher: the frozen network of the step before, without this step's columns; None at step 0.
        dtype: the precision to compute in.
        config: the whole configuration of the run.
    """

    step: int
    tasks: tuple[range, ...]
    current: StepClips
    exemplars: StepClips
    teacher: AudioVisualNetwork | None
    dtype: torch.dtype
    config: RunConfig

    @property
    def old_classes(self) -> int:
        """Number of classes seen before this step."""
        return self.tasks[self.step].start


@dataclass(frozen=True)
class Batch:
    """Which clips a forward pass saw: N = n_c current ones, then n_e exemplars.

    Attributes:
        current: [n_c] positions among the step's current clips.
        exemplars: [n_e] positions among the step's exemplars.
        labels: [N] classifier columns.
    """

    current: Tensor
    exemplars: Tensor
    labels: Tensor


Objective = Callable[[NetworkOutput, Batch], dict[str, Tensor]]
"""Weighted loss terms of a batch by name; their sum is minimised."""


@dataclass(frozen=True)
class Method:
    """A way to learn step by step.

    Attributes:
        name: what `--method` takes.
        prepare: called at a step's start, returns the objective of its batches.
        modalities: the networks it is defined for.
        replays: it sees a memory of exemplars beside the current clips.
        sees_everything: its current clips are those of all classes seen so far.
        starts_fresh: every step begins with a new network instead of the one before.
    """

    name: str
    prepare: Callable[[StepContext], Objective]
    modalities: tuple[Modality, ...] = ALL_MODALITIES
    replays: bool = False
    sees_everything: bool = False
    starts_fresh: bool = False


def cross_entropy_objective(context: StepContext) -> Objective:
    """Plain cross-entropy over all columns: the first step of most methods, every step of some."""

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": torch.nn.functional.cross_entropy(output.logits, batch.labels)}

    return objective
