"""The definitions on matrices small enough to check by hand."""

import pytest

from avcil.train.record import metrics

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


def test_a_class_may_be_learnt_better_later() -> None:
    """Uneven steps {0}, {1, 2}, {3}: the first class is known only after the second step."""
    tasks = [range(0, 1), range(1, 3), range(3, 4)]
    outcomes = [
        ([0, 0, 0, 0], [0, 0, 0, 0]),  # all right
        ([0, 0, 1, 1, 1, 2, 2, 0], [0, 0, 0, 0, 1, 1, 2, 2]),  # 2 of 4; 2 of 4
        ([0, 0, 0, 3, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 2, 2, 3, 0]),  # 3 of 5; 4 of 4; 1 of 1
    ]
    matrix = [metrics.task_accuracy(*pair, tasks[: step + 1]) for step, pair in enumerate(outcomes)]
    assert matrix == [[1.0], [0.5, 0.5], [0.6, 1.0, 1.0]]
    assert metrics.forgetting(matrix) == [None, 0.5, pytest.approx(((1.0 - 0.6) + (0.5 - 1.0)) / 2)]
    assert metrics.forgetting(matrix)[2] < 0
    assert metrics.average_forgetting(matrix) == pytest.approx((0.5 - 0.05) / 2)
    assert metrics.backward_transfer(matrix) == pytest.approx(((0.6 - 1.0) + (1.0 - 0.5)) / 2)
    accuracies = [metrics.accuracy(*pair) for pair in outcomes]
    assert accuracies == [1.0, 0.5, 0.8]  # over clips: steps weigh by their clips
    assert metrics.mean_accuracy(accuracies) == pytest.approx(2.3 / 3)


def test_nothing_to_classify_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 predictions"):
        metrics.accuracy([], [])
