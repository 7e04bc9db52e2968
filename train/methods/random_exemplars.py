"""Owns the random choice of the exemplars that each step may replay; knows clip ids only."""

from __future__ import annotations

import random
from collections.abc import Sequence

from avcil.train.protocol import Protocol


def random_exemplars(
    protocol: Protocol, train: Sequence[Sequence[str]], seed: int
) -> list[dict[int, tuple[str, ...]]]:
    """Random memory of every step, {column: clip ids}; that of step 0 is empty.

    Old classes keep a prefix of their list as m shrinks; a class with fewer than m clips keeps all. The
    draws are those of Python's `random.seed(seed)` followed by one `random.sample` per class, classes in
    column order, so that a published seed selects the published exemplars.

    Args:
        protocol: classes, steps and memory budget.
        train: training clip ids by column.
        seed: the run's seed.
    """
    generator = random.Random(seed)
    memories: list[dict[int, tuple[str, ...]]] = [{}]
    for step in range(1, protocol.steps):
        m = protocol.exemplars_per_class(protocol.seen(step - 1))
        memory = {column: ids[:m] for column, ids in memories[-1].items()}
        for column in protocol.tasks[step - 1]:
            memory[column] = tuple(generator.sample(list(train[column]), min(len(train[column]), m)))
        memories.append(memory)
    return memories
