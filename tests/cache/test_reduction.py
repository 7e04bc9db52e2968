"""What is kept of visual tokens, against slow, obvious sums, and how a cache describes it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avcil.cache import CacheInfo, Reduction, TokenSpec
from avcil.cache.reduction import coarser, reduced, rounded, statistics
from avcil.errors import CacheError

T, SIDE, D = 3, 4, 5
OF = TokenSpec((T, SIDE * SIDE, D), "float16")
VISUAL = np.random.default_rng(0).standard_normal(OF.shape).astype(np.float32)


def test_statistics_are_those_of_every_channel_alone() -> None:
    found = statistics(VISUAL, ("mean", "std", "max"))
    assert found.shape == (1, 3, D) and found.dtype == np.float32
    for channel in range(D):
        values = [float(VISUAL[t, s, channel]) for t in range(T) for s in range(SIDE * SIDE)]
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        assert found[0, :, channel] == pytest.approx([mean, deviation, max(values)], rel=1e-6)


def test_a_small_deviation_beside_a_large_mean_is_not_lost() -> None:
    tokens = (1000 + 1e-3 * VISUAL).astype(np.float32)
    expected = tokens.astype(np.longdouble).std(axis=(0, 1))
    np.testing.assert_allclose(statistics(tokens, ("mean", "std"))[0, 1], expected.astype(float), rtol=1e-6)


@pytest.mark.parametrize("grid", [1, 2])
def test_a_coarser_grid_is_the_mean_of_neighbours(grid: int) -> None:
    found, block = coarser(VISUAL, grid), SIDE // grid
    picture = VISUAL.reshape(T, SIDE, SIDE, D)
    for t in range(T):
        for row in range(grid):
            for column in range(grid):
                cells = [
                    picture[t, row * block + y, column * block + x]
                    for y in range(block)
                    for x in range(block)
                ]
                expected = np.mean(cells, axis=0)
                np.testing.assert_allclose(found[t, row * grid + column], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_both_at_once_are_one_after_the_other(dtype: str) -> None:
    stored = rounded(VISUAL, dtype)
    grid = Reduction(replace(OF, dtype=dtype), grid=2)
    then = Reduction(grid.spec, statistics="mean-std")
    expected = reduced(rounded(reduced(stored, grid), dtype), then)
    np.testing.assert_array_equal(reduced(stored, replace(grid, statistics="mean-std")), expected)


def test_a_reduction_says_what_becomes_of_tokens() -> None:
    assert Reduction(OF, grid=2).spec == TokenSpec((T, 4, D), "float16")
    assert Reduction(OF, 2, "mean-std").spec == TokenSpec((1, 2, D), "float32")
    assert str(Reduction(OF, 2, "mean-std-max")) == (
        "averaged to a grid of 2 x 2; mean, std, max over time and space of [3, 16, 5] float16"
    )


@pytest.mark.parametrize(
    ("shape", "grid", "statistics", "words"),
    [
        ((1, 16, 2), None, None, "needs a grid or statistics"),
        ((1, 16, 2), 3, None, "grid of 4 x 4; choose 1 or 2"),
        ((1, 16, 2), 4, None, "grid of 4 x 4; choose 1 or 2"),
        ((1, 1, 2), 1, None, "grid of 1 x 1; choose no grid"),
        ((1, 17, 2), 1, None, "17 places of visual tokens are no square grid"),
        ((1, 16, 2), None, "median", "expected one of mean, mean-std, mean-std-max"),
        ((16, 2), None, "mean", r"expected \(T, S, D\)"),
    ],
)
def test_what_cannot_be_done_is_refused(
    shape: tuple[int, ...], grid: int | None, statistics: str | None, words: str
) -> None:
    with pytest.raises(CacheError, match=words):
        Reduction(TokenSpec(shape, "float16"), grid, statistics)  # type: ignore[arg-type]


def reduced_info(info: CacheInfo, statistics: str = "mean-std") -> CacheInfo:
    reduction = Reduction(info.visual, statistics=statistics)  # type: ignore[arg-type]
    return replace(info, visual=reduction.spec, visual_reduction=reduction)


def test_a_cache_says_that_it_is_reduced(info: CacheInfo) -> None:
    pooled = reduced_info(info)
    content = json.loads(json.dumps(pooled.content()))
    assert content["visual_reduction"] == {
        "of": {"shape": [2, 3, 5], "dtype": "float16"},
        "statistics": "mean-std",
    }
    assert CacheInfo.from_content(content) == pooled
    alike = replace(pooled, visual_reduction=None)  # tokens of an encoder with this very shape
    assert len({pooled.identity, alike.identity, reduced_info(info, "mean").identity, info.identity}) == 4
    assert "visual_reduction" not in info.content()


@pytest.mark.parametrize(
    ("reduction", "words"),
    [
        ({}, r"visual_reduction\.of is missing"),
        ({"of": {"shape": [2, 3, 5], "dtype": "float16"}, "grid": "1"}, "visual_reduction.grid"),
        (
            {"of": {"shape": [2, 3, 5], "dtype": "float16"}, "median": 1},
            "unknown key 'visual_reduction.median'",
        ),
        ({"of": {"shape": [2, 3, 5], "dtype": "float16"}, "statistics": "mean"}, "are not what mean over"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    reduction: dict[str, object], words: str, info: CacheInfo
) -> None:
    with pytest.raises(CacheError, match=words):
        CacheInfo.from_content(reduced_info(info).content() | {"visual_reduction": reduction})
