"""Line charts as well-formed SVG with every point where it belongs."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from avcil.report.pages.charts import (
    HEIGHT,
    LABEL_GAP,
    WIDTH,
    Axes,
    Line,
    Point,
    line_chart,
    point_chart,
    thinned,
    ticks,
)
from avcil.report.pages.curves import MOST_STEPS, step_ticks, training_charts
from avcil.train.record.records import EpochRecord, StepRecord

AXES = Axes("t", "d", [(0.0, "0"), (1.0, "100")], [(1, "1"), (3, "3")], "step", (1, 3), label_width=60)


@pytest.mark.parametrize(("low", "high"), [(0, 100), (0, 0.0007), (-9.4, 5.2), (0, 0), (3, 3), (-1, 0)])
def test_ticks_are_few_and_enclose(low: float, high: float) -> None:
    values = ticks(low, high)
    assert 2 <= len(values) <= 8 and values[0] <= low and values[-1] >= high


@pytest.mark.parametrize("steps", [1, 4, 12, 13, 20, 100, 1000])
def test_numbers_of_many_steps_do_not_touch(steps: int) -> None:
    shown = step_ticks({step: step for step in range(1, steps + 1)})
    assert 1 <= len(shown) <= MOST_STEPS and all(str(x) == text for x, text in shown)
    assert steps > MOST_STEPS or len(shown) == steps


def test_steps_that_fit_nothing_have_no_place_among_epochs() -> None:
    fitted, not_fitted = StepRecord.__new__(StepRecord), StepRecord.__new__(StepRecord)
    epochs = [EpochRecord(loss, {"cross_entropy": loss}, 0.5) for loss in (2.0, 1.0)]
    fitted.__dict__.update(epochs=epochs, best_epoch=1)
    not_fitted.__dict__.update(epochs=[], best_epoch=-1)
    for chart in training_charts([not_fitted, fitted, not_fitted]):
        drawn = ElementTree.fromstring(chart.drawing)
        assert [text.text for text in drawn.iter("text")][-2:] == ["2", "epochs of step"]
        assert "dotted" not in chart.drawing


def test_words_of_others_are_text() -> None:
    line = Line('</text><script>"&', [(1, 0.5), (3, 0.7)], values=["<b>", "ok"])
    drawn = ElementTree.fromstring(line_chart(AXES, [line]))
    assert '</text><script>"&' in [text.text for text in drawn.iter("text")]
    assert not list(drawn.iter("script")) and not list(drawn.iter("b"))


def test_a_gap_lifts_the_pen_and_points_stay_inside() -> None:
    drawn = line_chart(AXES, [Line("", [(1, 0.0), (2, None), (3, 1.0)])])
    path = next(iter(re.findall(r' d="([^"]*)"', drawn)))
    assert path.count("M") == 2 and "L" not in path
    numbers = [tuple(map(float, pair.split())) for pair in path.split("M") if pair]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in numbers) and numbers[0][1] > numbers[1][1]


def test_labels_of_lines_that_end_together_do_not_touch() -> None:
    drawn = line_chart(AXES, [Line(name, [(1, 0.0), (3, 0.0)]) for name in "abcd"])
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="label', drawn))
    assert all(b - a >= 12 for a, b in pairwise(heights)) and heights[-1] <= HEIGHT


def test_thinning_keeps_the_mean() -> None:
    points = [(float(k), k % 7.0) for k in range(1000)]
    few = thinned(points, 100)
    assert len(few) == 100 and sum(y for _, y in few) / 100 == pytest.approx(sum(y for _, y in points) / 1000)


def test_labels_of_points_find_room_and_what_they_say_is_text() -> None:
    names = ["AV-CIL", "SS-IL", "iCaRL-NME", "iCaRL-FC", "<b>", "LwF"]
    points = [Point(name, 3.0, 0.5 + 0.02 * k, f"c{k}", f"{name} & more") for k, name in enumerate(names)]
    drawn = ElementTree.fromstring(point_chart(AXES, points))
    assert [title.text for circle in drawn.iter("circle") for title in circle] == [one.note for one in points]
    labels = [one for one in drawn.iter("text") if one.get("class", "").startswith("tag")]
    assert [one.text for one in labels] == names
    boxes = [(float(one.get("x", "")), float(one.get("y", "")), 7 * len(one.text or "")) for one in labels]
    for k, (x, y, width) in enumerate(boxes):
        assert x >= 0 and x + width <= WIDTH and 0 < y < HEIGHT
        for other_x, other_y, other_width in boxes[:k]:
            apart = x + width <= other_x or other_x + other_width <= x
            assert apart or abs(y - other_y) >= LABEL_GAP - 0.2
