"""Methods: what one prepares at a step's start, the loss of a batch, what is kept of a step, how it predicts.

A method is data and functions, composed in one `Method`. `docs/methods.md` explains how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.cache.token_spec import Statistics
from avcil.train.config import Modality, RunConfig, config_from_table
from avcil.train.methods.head import Head, NetworkHead
from avcil.train.network.fused_attention import TeacherAttention
from avcil.train.network.inference import unit_features
from avcil.train.network.layers import LinearLayer, OutputLayer
from avcil.train.network.model import AudioVisualNetwork, NetworkOutput
from avcil.train.tokens.batches import StepClips

ALL_MODALITIES: tuple[Modality, ...] = ("audio-visual", "audio", "visual")


@dataclass(frozen=True)
class StepContext:
    """What a method works with, from the start of a step to its end.

    Attributes:
        step: t, counted from 0.
        tasks: columns of every step up to and including this one.
        current: the clips that drive the epoch; with `joined` replay the exemplars are the last of them.
        exemplars: the memory that is replayed beside; empty at step 0 and for methods without one.
        student: the network that learns; at the step's start it has the step's new columns, untrained.
        teacher: the frozen network of the step before, without this step's columns; None at step 0.
        head: the method's head after the step before; as constructed at step 0.
        exemplars_per_class: m, how many exemplars each class seen may keep when the step is over.
        generator: for what the method draws at the step's start, on the CPU.
        config: the whole configuration of the run.
        settings: the method's own, of the type that it names.
    """

    step: int
    tasks: tuple[range, ...]
    current: StepClips
    exemplars: StepClips
    student: AudioVisualNetwork
    teacher: AudioVisualNetwork | None
    head: Head
    exemplars_per_class: int
    generator: torch.Generator
    config: RunConfig
    settings: Any

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


@dataclass(frozen=True)
class NoSettings:
    """Of a method that has none."""


@dataclass(frozen=True)
class Method:
    """A way to learn step by step.

    Attributes:
        name: what `--method` takes.
        title: what people call it.
        prepare: called at a step's start, returns the objective of its batches (a function, or that and a
            teacher's attention), or None when the step fits nothing. It may change the student.
        settings: a frozen dataclass, every field with a default and none called `name`; it refuses a bad
            value with a `ConfigError`. `StepContext.settings` is an instance of it.
        modalities: the networks it is defined for.
        layer: the output layer that is trained with the network; None trains no network at all.
        head: how it classifies; by the layer's scores if nothing else is given.
        visual: what it uses of the visual tokens, if its modality has any; None: what its network does.
        by_settings: gives the fields of this method that its settings decide, such as `layer` and `visual`.
        replay: `beside` gives every batch of current clips a batch of exemplars of its own size, `joined`
            makes one set of the current clips and the exemplars.
        choose: called at a step's end, gives each class seen the rows of `context.labels` that it keeps as
            exemplars. None: they are drawn at random before the next step.
        sees_everything: its current clips are those of all classes seen so far.
        starts_fresh: every step begins with a new network instead of the one before.
    """

    name: str
    title: str
    prepare: Callable[[StepContext], Objective | AttentionObjective | None]
    settings: type[Any] = NoSettings
    modalities: tuple[Modality, ...] = ALL_MODALITIES
    layer: type[OutputLayer] | None = LinearLayer
    head: type[Head] = NetworkHead
    visual: Statistics | None = None
    by_settings: Callable[[Any], Mapping[str, Any]] | None = None
    replay: Literal["none", "beside", "joined"] = "none"
    choose: Callable[[StepContext], list[Tensor]] | None = None
    sees_everything: bool = False
    starts_fresh: bool = False

    def __post_init__(self) -> None:
        if not is_dataclass(self.settings) or "name" in {one.name for one in fields(self.settings)}:
            raise TypeError(f"settings of method {self.name} must be a dataclass without a field `name`")

    @property
    def replays(self) -> bool:
        """Whether it keeps exemplars."""
        return self.replay != "none"

    def configured(self, given: Mapping[str, Any]) -> tuple[Method, Any]:
        """The method as its settings make it, and these as the type they have, from values by name.

        Raises:
            ConfigError: a name or a value is not one.
        """
        settings = config_from_table(self.settings, given, f"method {self.name}", "method")
        return self if self.by_settings is None else replace(self, **self.by_settings(settings)), settings


def cross_entropy_objective(context: StepContext) -> Objective:
    """Plain cross-entropy over all columns: the first step of most methods, every step of some."""

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output.logits, batch.labels)}

    return objective
