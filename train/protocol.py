"""Protocols: which classes and clips each step sees, by ids and labels."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from avcil.errors import ConfigError
from avcil.train.config import ProtocolConfig

EXEMPLARS_PER_CLASS = 12  # when no total is given; AVE-CI keeps 340 for 28 classes


@dataclass(frozen=True)
class Protocol:
    """Classes in the order they arrive and the steps that cut them.

    A class's position in `classes` is its classifier column, so step t owns one contiguous range. `memory` is
    the number of exemplars in total; with `memory_per_class` every class may keep that many at all steps.
    """

    classes: tuple[str, ...]
    step_sizes: tuple[int, ...]
    memory: int
    memory_per_class: int | None = None

    @property
    def steps(self) -> int:
        """Number of incremental steps, the first one included."""
        return len(self.step_sizes)

    @property
    def tasks(self) -> tuple[range, ...]:
        """Columns of each step's own classes."""
        ends = list(accumulate(self.step_sizes))
        return tuple(range(end - size, end) for end, size in zip(ends, self.step_sizes, strict=True))

    def seen(self, step: int) -> int:
        """C, the number of classes seen once step `step` has begun."""
        return self.tasks[step].stop

    def exemplars_per_class(self, classes: int) -> int:
        """m, the exemplars each of `classes` classes may keep: floor(memory / classes) or its own budget."""
        return self.memory // classes if self.memory_per_class is None else self.memory_per_class


@dataclass(frozen=True)
class ClipSet:
    """Clips in set order (columns ascending, within a class in cache order) with their columns."""

    ids: tuple[str, ...]
    columns: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: ClipSet) -> ClipSet:
        return ClipSet(self.ids + other.ids, self.columns + other.columns)


@dataclass(frozen=True)
class ClassClips:
    """The clips of every split by classifier column, in cache order."""

    train: tuple[tuple[str, ...], ...]
    val: tuple[tuple[str, ...], ...]
    test: tuple[tuple[str, ...], ...]


def build_protocol(config: ProtocolConfig, available: Sequence[str]) -> Protocol:
    """Cut the classes of a cache into steps.

    Args:
        config: what the user asked for.
        available: class labels of the cache, in manifest order.

    Raises:
        ConfigError: more classes asked for than there are, an unknown class, sizes that do not add up.
    """
    classes = list(config.classes or available)
    unknown = [name for name in classes if name not in set(available)]
    if unknown:
        raise ConfigError(
            f"protocol.classes names {unknown[0]!r}, which the cache does not hold "
            f"(it has {len(available)} classes: {', '.join(sorted(available)[:5])}, ...)"
        )
    if config.order == "alphabetical":
        classes.sort()
    elif config.order == "shuffled":
        random.Random(config.order_seed).shuffle(classes)
    sizes = _step_sizes(config, len(classes))
    if sum(sizes) > len(classes):
        raise ConfigError(
            f"the protocol asks for {sum(sizes)} classes ({' + '.join(map(str, sizes))}) but there are "
            f"{len(classes)}; ask for fewer steps or classes per step"
        )
    classes = classes[: sum(sizes)]
    per_class = EXEMPLARS_PER_CLASS if config.memory_per_class is None else config.memory_per_class
    memory = config.memory if config.memory is not None else per_class * len(classes)
    return Protocol(tuple(classes), sizes, memory, config.memory_per_class)


def _step_sizes(config: ProtocolConfig, count: int) -> tuple[int, ...]:
    if config.step_sizes:
        return config.step_sizes
    if config.base and config.increment:
        return (config.base, *_increments(count - config.base, config.increment))
    if config.classes_per_step:
        if config.classes_per_step > count:
            return (config.classes_per_step,)
        return _increments(count, config.classes_per_step)
    if config.steps is None:
        raise ConfigError(
            "no steps given: use --steps, --classes-per-step, --base with --increment, or --protocol"
        )
    if config.steps > count:
        raise ConfigError(
            f"{config.steps} steps need at least {config.steps} classes but there are {count}; "
            "ask for fewer steps"
        )
    base, larger = divmod(count, config.steps)
    return tuple(base + (step < larger) for step in range(config.steps))


def _increments(count: int, size: int) -> tuple[int, ...]:
    """`count` classes, `size` at a time, the last step with what is left; none if there are none."""
    whole, rest = divmod(max(0, count), size)
    return (size,) * whole + ((rest,) if rest else ())


def group_clips(protocol: Protocol, clips: Iterable[tuple[str, str, str]], needs_val: bool) -> ClassClips:
    """Sort clips `(id, label, split)` into the protocol's columns.

    Raises:
        ConfigError: a class of the protocol has no clip to train on, to test or (if `needs_val`) to validate.
    """
    column = {name: index for index, name in enumerate(protocol.classes)}
    lists: dict[str, list[list[str]]] = {
        split: [[] for _ in protocol.classes] for split in ("train", "val", "test")
    }
    for clip_id, label, split in clips:
        if label in column:
            lists[split][column[label]].append(clip_id)
    for split in ("train", "val", "test"):
        empty = [name for name, ids in zip(protocol.classes, lists[split], strict=True) if not ids]
        if not empty or (split == "val" and not needs_val):
            continue
        named = ", ".join(map(repr, empty[:3])) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        remedy = {
            "train": "a class that is tested or validated must be trained; add training clips or leave it "
            "out with protocol.classes",
            "val": "choosing the best epoch needs some; add validation clips or use --select last",
            "test": "add test clips or leave it out with protocol.classes",
        }[split]
        raise ConfigError(f"no {split} clips for class {named}: {remedy}")
    groups = {split: tuple(tuple(ids) for ids in by_column) for split, by_column in lists.items()}
    return ClassClips(groups["train"], groups["val"], groups["test"])


def clip_set(by_column: Sequence[Sequence[str]], columns: Iterable[int]) -> ClipSet:
    """The clips of some columns in set order."""
    pairs = [(clip_id, column) for column in columns for clip_id in by_column[column]]
    return ClipSet(tuple(clip_id for clip_id, _ in pairs), tuple(column for _, column in pairs))


def exemplar_set(exemplars: Mapping[int, Sequence[str]]) -> ClipSet:
    """A memory {column: ids} in set order."""
    pairs = [(clip_id, column) for column in sorted(exemplars) for clip_id in exemplars[column]]
    return ClipSet(tuple(clip_id for clip_id, _ in pairs), tuple(column for _, column in pairs))
