"""Labels that people cannot tell apart."""

import pytest

from avcil.labels import look_alike, without_margins


@pytest.mark.parametrize("text", [" cat", "cat\u00a0", "\u200b \ufeffcat\u2060\t", "cat\u200e"])
def test_what_cannot_be_seen_around_a_label_goes(text: str) -> None:
    assert without_margins(text) == "cat"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cat", "cat "),
        ("cat", "c\u200bat"),
        ("caf\u00e9", "cafe\u0301"),
        ("a b", "a\u00a0b"),
        ("a", "\ufeffa"),
    ],
)
def test_labels_that_look_the_same(first: str, second: str) -> None:
    assert look_alike(["dog", first, first, second]) == f"{first!a} and {second!a}"


@pytest.mark.parametrize(
    "labels", [["cat", "Cat"], ["a b", "ab", "a\tb"], ["x2", "x\u00b2"], ["\u200d", "a"]]
)
def test_labels_that_do_not(labels: list[str]) -> None:
    assert look_alike(labels) == ""
