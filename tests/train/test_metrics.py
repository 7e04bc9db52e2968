"""The definitions on matrices small enough to check by hand."""

import pytest

from avcil.train import metrics

MATRIX = [[0.5], [0.9, 0.6], [0.7, 0.8, 1.0]]


def test_forgetting_is_the_fall_from_the_best_before() -> None:
    # Step 1: 0.5 - 0.9. Step 2: mean of 0.9 - 0.7 and 0.6 - 0.8.
    assert metrics.forgetting(MATRIX) == [None, pytest.approx(-0.4), pytest.approx(0.0)]
    assert metrics.average_forgetting(MATRIX) == pytest.approx(-0.2)


def test_backward_transfer_compares_with_the_step_of_learning() -> None:
    assert metrics.backward_transfer(MATRIX) == pytest.approx((0.2 + 0.2) / 2)


def test_one_step_forgets_nothing() -> None:
    assert metrics.average_forgetting([[0.5]]) is None
    assert metrics.backward_transfer([[0.5]]) is None


def test_mean_accuracy_weighs_steps_equally() -> None:
    assert metrics.mean_accuracy([1.0, 0.5, 0.0]) == pytest.approx(0.5)


def test_task_accuracy_with_uneven_steps() -> None:
    predicted, true = [0, 1, 1, 2, 0], [0, 1, 2, 2, 1]
    assert metrics.task_accuracy(predicted, true, [range(0, 1), range(1, 3)]) == [1.0, 0.5]


def test_nothing_to_classify_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 predictions"):
        metrics.accuracy([], [])
