"""Owns what a method is: what it prepares, the loss of a batch, what it keeps of a step, how it predicts.

A method is data and functions, composed in one `Method`; there is nothing to inherit from. `docs/methods.md`
walks through one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import Modality, RunConfig
from avcil.train.network.fused_attention import TeacherAttention
from avcil.train.network.heads import HeadKind
from avcil.train.network.inference import unit_features
from avcil.train.network.model import AudioVisualNetwork, NetworkOutput
from avcil.train.tokens.batches import StepClips

ALL_MODALITIES: tuple[Modality, ...] = ("audio-visual", "audio", "visual")


@dataclass(frozen=True)
class StepContext:
    """What a method may look at, from the start of a step to its end.

    Attributes:
        step: t, counted from 0.
        tasks: columns of every step up to and including this one.
        current: the clips that drive the epoch; with `joined` replay the exemplars are the last of them.
        exemplars: the memory that is replayed beside; empty at step 0 and for methods without one.
        student: the network that learns; at the step's start it has the step's new columns, untrained.
        teacher: the frozen network of the step before, without this step's columns; None at step 0.
        kept: what the method's readout kept of the step before; empty at step 0.
        exemplars_per_class: m, how many exemplars each class seen may keep when the step is over.
        generator: for what the method draws at the step's start, on the CPU.
        config: the whole configuration of the run.
    """

    step: int
    tasks: tuple[range, ...]
    current: StepClips
    exemplars: StepClips
    student: AudioVisualNetwork
    teacher: AudioVisualNetwork | None
    kept: Mapping[str, Tensor]
    exemplars_per_class: int
    generator: torch.Generator
    config: RunConfig

    @property
    def old_classes(self) -> int:
        """Number of classes seen before this step."""
        return self.tasks[self.step].start

    @property
    def classes(self) -> int:
        """C, number of classes seen."""
        return self.tasks[self.step].stop

    @property
    def released(self) -> bool:
        """Whether the published program is followed where it departs from the papers."""
        return self.config.fidelity == "released"

    @property
    def labels(self) -> Tensor:
        """Columns [n] of the current clips and then of the exemplars beside them."""
        return torch.cat([self.current.labels, self.exemplars.labels])

    def unit_features(self) -> Tensor:
        """The student's fused features [n, D] of the same clips, of unit length."""
        groups = [clips for clips in (self.current, self.exemplars) if len(clips)]
        return torch.cat([unit_features(self.student, clips.tokens) for clips in groups])


@dataclass(frozen=True)
class Batch:
    """Which clips a forward pass saw: N = n_c current ones, then n_e exemplars.

    Attributes:
        current: [n_c] positions among the step's current clips.
        exemplars: [n_e] positions among the step's exemplars.
        labels: [N] columns.
        student_is_teacher: this is the first update of a step: what is old in the student is still the
            teacher's, weight by weight.
    """

    current: Tensor
    exemplars: Tensor
    labels: Tensor
    student_is_teacher: bool = False

    def against_teacher(self, term: Tensor) -> Tensor:
        """A term that is smallest where the student's outputs are the teacher's.

        At the first update they are, so the term's true gradient is zero. What arithmetic leaves of it is
        rounding, and a fresh Adam, which divides a gradient by its own size, would make full steps of that.
        So the term is a constant there.
        """
        return term.detach() if self.student_is_teacher else term


Objective = Callable[[NetworkOutput, Batch], dict[str, Tensor]]
"""Weighted loss terms of a batch by name; their sum is minimised."""


@dataclass(frozen=True)
class AttentionObjective:
    """An objective that compares the student's attention to the exemplars of a batch with a teacher's.

    Attributes:
        loss: the terms; it finds what the attentions differ by in `output.attended`.
        teacher: the teacher's attention to all exemplars of the step.
    """

    loss: Objective
    teacher: TeacherAttention


def _head_scores(output: NetworkOutput, kept: Mapping[str, Tensor]) -> Tensor:
    return output.logits


def _keep_nothing(context: StepContext) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class Readout:
    """How a method classifies.

    Attributes:
        scores: the network's output on B clips and what was kept, into scores [B, C].
        keep: tensors that `scores` needs beside the network, computed from the student as it is. Called after
            every epoch that is validated and at the step's end, when they are saved with the step.
        needs_exemplars: every class seen must have an exemplar, those of the last step too.
    """

    scores: Callable[[NetworkOutput, Mapping[str, Tensor]], Tensor] = _head_scores
    keep: Callable[[StepContext], dict[str, Tensor]] = _keep_nothing
    needs_exemplars: bool = False


@dataclass(frozen=True)
class Method:
    """A way to learn step by step.

    Attributes:
        name: what `--method` takes.
        prepare: called at a step's start, returns the objective of its batches (a function, or that and a
            teacher's attention), or None when the step fits nothing. It may change the student.
        modalities: the networks it is defined for.
        head: linear classifier or proxies.
        readout: how it classifies; by the head's scores if nothing is said.
        replay: `beside` gives every batch of current clips a batch of exemplars of its own size, `joined`
            makes one set of the current clips and the exemplars.
        choose: called at a step's end, gives each class seen the rows of `context.labels` that it keeps as
            exemplars. None: they are drawn at random before the next step.
        sees_everything: its current clips are those of all classes seen so far.
        starts_fresh: every step begins with a new network instead of the one before.
    """

    name: str
    prepare: Callable[[StepContext], Objective | AttentionObjective | None]
    modalities: tuple[Modality, ...] = ALL_MODALITIES
    head: HeadKind = "linear"
    readout: Readout = field(default_factory=Readout)
    replay: Literal["none", "beside", "joined"] = "none"
    choose: Callable[[StepContext], list[Tensor]] | None = None
    sees_everything: bool = False
    starts_fresh: bool = False

    @property
    def replays(self) -> bool:
        """Whether it keeps exemplars."""
        return self.replay != "none"


def cross_entropy_objective(context: StepContext) -> Objective:
    """Plain cross-entropy over all columns: the first step of most methods, every step of some."""

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output.logits, batch.labels)}

    return objective
