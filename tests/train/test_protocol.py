import random

import pytest

from avcil.errors import ConfigError
from avcil.train.config import ProtocolConfig
from avcil.train.methods.exemplars import random_exemplars
from avcil.train.protocol import Protocol, build_protocol, clip_set, exemplar_set, group_clips

NAMES = [f"c{index}" for index in (3, 0, 2, 1, 4, 6, 5)]


def test_steps_share_the_classes_as_evenly_as_they_can() -> None:
    assert build_protocol(ProtocolConfig(steps=3), NAMES).step_sizes == (3, 2, 2)


def test_the_last_step_takes_what_is_left() -> None:
    assert build_protocol(ProtocolConfig(classes_per_step=3), NAMES).step_sizes == (3, 3, 1)


@pytest.mark.parametrize(
    ("base", "increment", "sizes"), [(3, 2, (3, 2, 2)), (2, 3, (2, 3, 2)), (7, 1, (7,)), (1, 10, (1, 6))]
)
def test_a_base_and_increments(base: int, increment: int, sizes: tuple[int, ...]) -> None:
    assert build_protocol(ProtocolConfig(base=base, increment=increment), NAMES).step_sizes == sizes


def test_tasks_are_contiguous_columns() -> None:
    protocol = build_protocol(ProtocolConfig(step_sizes=(1, 4, 2)), NAMES)
    assert protocol.tasks == (range(0, 1), range(1, 5), range(5, 7))
    assert [protocol.seen(step) for step in range(3)] == [1, 5, 7]


def test_class_orders() -> None:
    assert build_protocol(ProtocolConfig(steps=1), NAMES).classes == tuple(NAMES)
    alphabetical = build_protocol(ProtocolConfig(steps=1, order="alphabetical"), NAMES)
    assert alphabetical.classes == tuple(sorted(NAMES))
    first = build_protocol(ProtocolConfig(steps=1, order="shuffled", order_seed=1), NAMES).classes
    again = build_protocol(ProtocolConfig(steps=1, order="shuffled", order_seed=1), NAMES).classes
    other = build_protocol(ProtocolConfig(steps=1, order="shuffled", order_seed=2), NAMES).classes
    assert first == again != other and sorted(first) == sorted(NAMES)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ProtocolConfig(step_sizes=(4, 4)), "asks for 8 classes .* there are 7"),
        (ProtocolConfig(classes_per_step=8), "asks for 8 classes"),
        (ProtocolConfig(base=8, increment=1), "asks for 8 classes"),
        (ProtocolConfig(steps=8), "8 steps need at least 8 classes"),
        (ProtocolConfig(steps=1, classes=("c0", "dog")), "'dog'"),
        (ProtocolConfig(), "no steps given"),
    ],
)
def test_an_impossible_protocol_is_refused(config: ProtocolConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_protocol(config, NAMES)


def clips(**counts: tuple[int, int, int]) -> list[tuple[str, str, str]]:
    return [
        (f"{label}-{split}-{index}", label, split)
        for label, sizes in counts.items()
        for split, size in zip(("train", "val", "test"), sizes, strict=True)
        for index in range(size)
    ]


def test_clips_are_sorted_into_columns() -> None:
    protocol = Protocol(("b", "a"), (1, 1), 10)
    groups = group_clips(protocol, clips(a=(2, 1, 1), b=(1, 1, 1), stranger=(0, 0, 3)), needs_val=True)
    assert clip_set(groups.train, [0, 1]).ids == ("b-train-0", "a-train-0", "a-train-1")
    assert clip_set(groups.train, [0, 1]).columns == (0, 1, 1)


@pytest.mark.parametrize(
    ("counts", "words"),
    [((0, 1, 1), "no train clips for class 'a'"), ((1, 1, 0), "no test clips"), ((1, 0, 1), "--select last")],
)
def test_a_class_without_clips_is_refused(counts: tuple[int, int, int], words: str) -> None:
    protocol = Protocol(("a", "b"), (2,), 10)
    with pytest.raises(ConfigError, match=words):
        group_clips(protocol, clips(a=counts, b=(1, 1, 1)), needs_val=True)


def test_validation_may_be_missing_when_nobody_needs_it() -> None:
    groups = group_clips(Protocol(("a",), (1,), 10), clips(a=(1, 0, 1)), needs_val=False)
    assert groups.val == ((),)


def test_memory_is_shared_by_the_classes_seen_before() -> None:
    protocol = Protocol(tuple("abcdef"), (2, 2, 2), 9)
    assert [protocol.exemplars_per_class(protocol.seen(step)) for step in (0, 1)] == [4, 2]
    sizes = {"a": 5, "b": 3, "c": 5, "d": 3, "e": 5, "f": 3}
    train = tuple(tuple(f"{name}{index}" for index in range(size)) for name, size in sizes.items())
    memories = [random_exemplars(protocol, train[: 2 * step], 42, step) for step in range(3)]
    assert memories[0] == {}
    assert {column: len(ids) for column, ids in memories[1].items()} == {0: 4, 1: 3}
    assert {column: ids[:2] for column, ids in memories[1].items()} == {
        column: memories[2][column] for column in (0, 1)
    }


def test_exemplars_are_those_of_pythons_own_random() -> None:
    protocol = Protocol(("a", "b", "c"), (2, 1), 6)
    train = (tuple("pqrst"), tuple("vwxyz"), tuple("ijk"))
    random.seed(42)
    expected = {column: tuple(random.sample(list(train[column]), 3)) for column in (0, 1)}
    memory = random_exemplars(protocol, train, 42, 1)
    assert memory == expected
    assert exemplar_set(memory).columns == (0, 0, 0, 1, 1, 1)
