"""What is recorded of a run, of each of its steps and of each epoch, as values; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from avcil.errors import RunError

Stage = Literal["load", "prepare", "train", "validate", "test", "save"]
OldClips = Literal["none", "exemplars", "all"]


@dataclass(frozen=True)
class Environment:
    """The circumstances of a run, for its record; none of them is needed to go on with it.

    Attributes:
        versions: avcil, python, torch, numpy, h5py and, for a GPU, cuda.
        platform: operating system and machine.
        processor: model name of the CPU.
        cores: logical CPU cores of the machine.
        threads: threads that torch computes with.
        device: the CUDA device's name, "cpu" without one.
        products: the precision of the attention's large matrix products, such as "bfloat16".
        git_revision: commit of the repository that the command was started in; None outside of one.
        git_dirty: whether tracked files differed from that commit.
    """

    versions: dict[str, str]
    platform: str
    processor: str
    cores: int
    threads: int
    device: str
    products: str
    git_revision: str | None
    git_dirty: bool | None


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
        old_clips: which training clips of earlier classes a step is given.
        needs: what of a clip's tokens is used, the fields of `TokenNeeds`.
        environment: what the run was begun with.

    Raises:
        RunError: no cache, a class that is listed twice, a step without a class, or classes without a step.
    """

    caches: tuple[str, ...]
    cache_fingerprint: str
    tokens: dict[str, Any]
    classes: tuple[str, ...]
    step_sizes: tuple[int, ...]
    memory: int
    method_title: str
    method_defaults: dict[str, Any]
    old_clips: OldClips
    needs: dict[str, Any]
    environment: Environment

    def __post_init__(self) -> None:
        if not self.caches:
            raise RunError("caches lists none")
        if len(set(self.classes)) < len(self.classes):
            raise RunError("classes lists a class twice")
        if min(self.step_sizes, default=0) < 1 or sum(self.step_sizes) != len(self.classes):
            raise RunError("step_sizes do not add up to the classes")

    def seen(self, step: int) -> int:
        """C, the number of classes seen once step `step` has begun."""
        return sum(self.step_sizes[: step + 1])


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a step.

    Attributes:
        loss: mean over the epoch's updates of the objective before the update.
        terms: the same for every weighted term.
        val_accuracy: share of validation hits after the epoch, None when nothing is validated.
    """

    loss: float
    terms: dict[str, float]
    val_accuracy: float | None


@dataclass(frozen=True)
class PeakMemory:
    """The most memory a step held at once.

    Attributes:
        host_bytes: resident memory of the process, tokens mapped from disk included.
        device_bytes: tensors on the CUDA device; None without one.
    """

    host_bytes: int
    device_bytes: int | None


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
        exemplar_bytes: of the tokens, as the cache holds them, of the clips that are kept once the step is
            over: exemplars, drawn or chosen, or all training clips so far for a method that sees them all.
        head_bytes: of what its head keeps beside the network.
        best_epoch: the selected epoch, from 0; -1 when the method fitted nothing.
        epochs: losses and validation accuracy of every epoch.
        predicted: predicted column of every test clip of all classes seen, in set order.
        true: its true column.
        seconds: wall time of the step.
        stages: how much of it went into what, in seconds.
        peak_memory: the most it held at once.

    Raises:
        RunError: the selected epoch is none of them, a count is negative, or there are more or fewer
            predictions than true columns.
    """

    step: int
    train_clips: int
    exemplars: dict[str, list[str]]
    kept: dict[str, list[str]]
    exemplar_bytes: int
    head_bytes: int
    best_epoch: int
    epochs: list[EpochRecord]
    predicted: list[int]
    true: list[int]
    seconds: float
    stages: dict[Stage, float]
    peak_memory: PeakMemory

    def __post_init__(self) -> None:
        if self.best_epoch not in (range(len(self.epochs)) if self.epochs else (-1,)):
            raise RunError(f"best_epoch is {self.best_epoch}, there are {len(self.epochs)} epochs")
        for name in ("train_clips", "exemplar_bytes", "head_bytes", "seconds"):
            if getattr(self, name) < 0:
                raise RunError(f"{name} is {getattr(self, name)}, less than 0")
        if len(self.predicted) != len(self.true):
            raise RunError(f"there are {len(self.predicted)} predictions of {len(self.true)} clips")


@dataclass(frozen=True)
class SavedStep(StepRecord):
    """What `record.json` holds: the record, and what describes the tensors beside it.

    Attributes:
        network: the fields of the network's shape.
        head: names of what the head keeps.
    """

    network: dict[str, Any]
    head: list[str]
