"""What a run did in sentences, on evaluations made up from their numbers."""

from typing import Any

import pytest

from avcil.report.words import byte_size, in_mb, percent, story
from avcil.train.record.results import Results


def evaluation(**changes: Any) -> Results:
    numbers: dict[str, Any] = {
        "method": "avcil",
        "modality": "audio-visual",
        "classes": list("abcdefgh"),
        "step_sizes": [4, 4],
        "memory": 20,
        "old_clips": "exemplars",
        "epochs": 5,
        "select": "best_val",
        "split": "test",
        "clips": 80,
        "last_accuracy": 0.5,
        "average_forgetting": 0.123,
    }
    result = Results.__new__(Results)
    result.__dict__.update(numbers | changes)
    return result


def test_a_stranger_is_told_what_was_learned_and_what_guessing_gives() -> None:
    told = " ".join(story(evaluation()))
    assert "8 classes of video apart by sound and picture together" in told
    assert "in 2 steps, 4 classes at a time" in told and "20 clips in total" in told
    assert "50.0 % of 80 test clips" in told and "guessing would be right for 12.5 %" in told
    assert "fell 12.3 percentage points" in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"old_clips": "none"}, "new classes only, and none of the old ones"),
        ({"old_clips": "all"}, "all clips of all classes so far"),
        ({"step_sizes": [8], "average_forgetting": None}, "all at once"),
        ({"step_sizes": [4, 2, 2]}, "in 3 steps of 4, 2 and 2 classes"),
        ({"average_forgetting": -0.05}, "even rose 5.0 percentage points"),
        ({"average_forgetting": 0.0001}, "cost the classes of earlier ones nothing"),
        ({"split": "val"}, "validation clips that chose which epoch to keep"),
        ({"split": "val", "select": "last"}, "validation clips that it never trained on"),
        ({"split": "val", "epochs": 0}, "validation clips that it never trained on"),
        ({"epochs": 0}, "A classifier learned to tell 8 classes"),
    ],
)
def test_every_course_has_its_words(changes: dict[str, Any], words: str) -> None:
    assert words in " ".join(story(evaluation(**changes)))


@pytest.mark.parametrize(
    ("n_bytes", "text", "mb"),
    [
        (0, "0 B", "0"),
        (999, "999 B", "0.001"),
        (12_345, "12.3 kB", "0.012"),
        (999_950, "1.00 MB", "1.00"),
        (86.81e6, "86.8 MB", "86.8"),
        (3.7e9, "3.70 GB", "3700"),
        (120, "120 B", "<0.001"),
    ],
)
def test_bytes_have_three_digits(n_bytes: float, text: str, mb: str) -> None:
    assert (byte_size(n_bytes), in_mb(n_bytes)) == (text, mb)


def test_no_minus_zero() -> None:
    assert [percent(x) for x in (-0.0001, 0.0, None, -0.1)] == ["0.0", "0.0", "-", "-10.0"]
