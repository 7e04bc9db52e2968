"""How clips of a class are divided."""

from collections import Counter

import pytest

from avcil.errors import ManifestError
from avcil.extract.sources.splits import SplitRule


def shares(rule: SplitRule, n: int) -> dict[str, int]:
    return dict(Counter(part for _, part in rule.assign("a", range(n))))


def test_counts_are_exact_and_leave_the_rest_out() -> None:
    assert shares(SplitRule.parse("16/4/4"), 24) == {"train": 16, "val": 4, "test": 4}
    assert shares(SplitRule.parse("2/1/1"), 10) == {"train": 2, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("n", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (10, (8, 1, 1)), (55, (43, 6, 6))]
)
def test_default_fractions(n: int, expected: tuple[int, int, int]) -> None:
    found = shares(SplitRule(), n)
    assert tuple(found.get(part, 0) for part in ("train", "val", "test")) == expected


def test_train_keeps_a_clip_of_a_tiny_class() -> None:
    assert shares(SplitRule.parse("0.1/0.45/0.45"), 4) == {"train": 1, "val": 1, "test": 2}


def test_the_draw_follows_seed_and_label_and_nothing_else() -> None:
    rule = SplitRule.parse("16/4/4", seed=1)
    assert rule.assign("a", range(24)) == rule.assign("a", range(24))
    assert rule.assign("a", range(24)) != rule.assign("b", range(24))
    assert rule.assign("a", range(24)) != SplitRule.parse("16/4/4", seed=2).assign("a", range(24))
    assert [item for item, _ in rule.assign("a", range(24))] == list(range(24))


@pytest.mark.parametrize(
    "text", ["", "16/4", "a/b/c", "0.5/0.2/0.2", "0/1/1", "-1/1/1", "nan/0/1", "1/1/1/1"]
)
def test_a_split_that_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ManifestError, match=r"16/4/4.*0\.8/0\.1/0\.1"):
        SplitRule.parse(text)


def test_too_few_clips_name_the_class() -> None:
    with pytest.raises(ManifestError, match="class 'a' has 23 clips, fewer than the 24"):
        SplitRule.parse("16/4/4").assign("a", range(23))
