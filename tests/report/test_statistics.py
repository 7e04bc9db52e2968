"""Against published tables of Student's distribution and sums done by hand."""

import pytest

from avcil.report.statistics import paired_difference, sample, t_quantile


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (9, 2.2622),
        (10, 2.2281),
        (30, 2.0423),
        (99, 1.9842),
    ],
)
def test_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, abs=5e-5)


def test_deviation_divides_by_n_minus_one() -> None:
    values = sample([1.0, 2.0, 6.0])
    assert (values.n, values.mean) == (3, 3.0)
    assert values.deviation == pytest.approx(((4 + 1 + 9) / 2) ** 0.5)
    assert sample([0.5]).deviation is None


def test_differences_are_taken_pair_by_pair() -> None:
    pairs = paired_difference([(0.5, 0.25), (0.75, 0.25), (0.5, 0.5)])  # 0.25, 0.5, 0
    assert pairs.mean == pytest.approx(0.25)
    assert pairs.half_width == pytest.approx(4.3027 * 0.25 / 3**0.5, rel=1e-4)
    assert paired_difference([(0.5, 0.25)]).half_width is None
