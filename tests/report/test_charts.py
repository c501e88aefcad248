from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from classifold.metrics import ReliabilityBin
from classifold.report import charts
from classifold.report.confidence_charts import draw_reliability
from classifold.report.confusion_map import draw_compact_matrix
from classifold.report.drawing import draw_interval, element, nice_ticks
from classifold.report.records import Epoch


def epochs_of(rows: list[dict[str, Any]]) -> list[Epoch]:
    return [Epoch(**(row | {"best": row["best"] == "true"})) for row in rows]


def draw(epochs: list[Epoch], figure: str = "loss") -> ET.Element:
    return ET.fromstring(
        charts.draw_learning_curve(epochs, figure=figure, title=figure, name=f"{figure}-chart")
    )


def points(curve: ET.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]  # type: ignore[misc]


def of_class(drawing: ET.Element, tag: str, class_: str) -> list[ET.Element]:
    return [found for found in drawing.iter(tag) if found.get("class") == class_]


@pytest.fixture
def epochs(history_rows: Callable[..., list[dict[str, Any]]]) -> list[Epoch]:
    return epochs_of(history_rows(12, 10, best=18))


def test_a_curve_runs_through_every_epoch_and_falls_where_the_loss_falls(epochs: list[Epoch]) -> None:
    [validation] = of_class(draw(epochs), "polyline", "curve validation")
    along = points(validation)
    assert len(along) == 22
    assert [x for x, _ in along] == sorted(x for x, _ in along)
    assert along[0][1] < along[-1][1]  # down is a larger y
    [accuracy] = of_class(draw(epochs, "accuracy"), "polyline", "curve validation")
    assert points(accuracy)[0][1] > points(accuracy)[-1][1]


def test_the_kept_epoch_and_the_stages_border_are_where_they_belong(epochs: list[Epoch]) -> None:
    drawing = draw(epochs)
    [validation] = of_class(drawing, "polyline", "curve validation")
    [ring] = of_class(drawing, "circle", "best")
    x, y = points(validation)[17]
    assert (float(ring.attrib["cx"]), float(ring.attrib["cy"])) == pytest.approx((x, y), abs=0.1)
    [border] = of_class(drawing, "line", "border")
    assert points(validation)[11][0] < float(border.attrib["x1"]) < points(validation)[12][0]


def test_the_numbers_below_a_curve_begin_again_with_fine_tuning(
    history_rows: Callable[..., list[dict[str, Any]]],
) -> None:
    drawing = draw(epochs_of(history_rows(3, 4, best=5)))
    ticks = [str(tick.text) for tick in of_class(drawing, "text", "tick")]
    assert ticks[-7:] == ["1", "2", "3", "1", "2", "3", "4"]


def test_a_figure_that_is_no_number_breaks_the_curve(epochs: list[Epoch]) -> None:
    epochs[5] = replace(epochs[5], val_loss=None)
    parts = of_class(draw(epochs), "polyline", "curve validation")
    assert [len(points(part)) for part in parts] == [5, 16]


def test_a_single_epoch_is_a_dot(epochs: list[Epoch]) -> None:
    drawing = draw(epochs[:1])
    assert not of_class(drawing, "polyline", "curve validation")
    assert len(of_class(drawing, "circle", "dot validation")) == 1


def test_epochs_without_any_figure_still_draw(epochs: list[Epoch]) -> None:
    bare = [replace(e, loss=None, val_loss=None, accuracy=None, val_accuracy=None) for e in epochs]
    assert not of_class(draw(bare), "polyline", "curve training")
    assert draw(bare[:1], "accuracy").tag == "svg"


def test_a_drawing_says_in_words_what_it_shows(epochs: list[Epoch]) -> None:
    drawing = draw(epochs, "accuracy")
    ids = drawing.attrib["aria-labelledby"].split()
    told = {part.attrib["id"]: part.text for part in drawing if "id" in part.attrib}
    assert drawing.attrib["role"] == "img"
    assert told[ids[0]] == "accuracy by epoch"
    assert "epoch 6 of fine-tuning was kept" in str(told[ids[1]])


@settings(max_examples=60, deadline=None)
@given(low=st.floats(-1e3, 1e3), span=st.floats(0, 1e3))
def test_ticks_enclose_the_figures_and_are_few_and_distinct(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * max(1.0, abs(low) + span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


def test_ticks_of_accuracies_end_at_one_and_are_written_apart(epochs: list[Epoch]) -> None:
    assert nice_ticks(0.97, 1.0, ceiling=1)[-1] == 1
    assert nice_ticks(1.0, 1.0, ceiling=1)[-1] == 1
    near = [replace(epochs[0], accuracy=0.3512, val_accuracy=0.3421)]
    written = [
        part.text for part in of_class(draw(near, "accuracy"), "text", "tick") if "%" in str(part.text)
    ]
    assert len(written) == len(set(written)) > 1


def test_a_bar_of_the_reliability_drawing_is_as_high_as_its_share() -> None:
    bins = [
        ReliabilityBin(low=0, high=0.5, count=0, confidence=None, accuracy=None),
        ReliabilityBin(low=0.5, high=1, count=8, confidence=0.8, accuracy=0.5),
    ]
    drawing = ET.fromstring(draw_reliability(bins, name="r", title="Confidence"))
    [bar] = of_class(drawing, "rect", "bin")
    [ideal] = of_class(drawing, "line", "ideal")
    full = float(ideal.attrib["y1"]) - float(ideal.attrib["y2"])
    assert float(bar.attrib["height"]) == pytest.approx(full / 2, abs=0.1)
    assert "of 8 pictures at 50 % to 100 % confidence, 50 % were right" in "".join(drawing.itertext())


def test_an_interval_is_drawn_around_its_bar() -> None:
    meter = ET.fromstring(draw_interval(0.5, 0.25, 0.75))
    [bar] = of_class(meter, "rect", "bar")
    whisker = of_class(meter, "line", "whisker")[0]
    assert float(whisker.attrib["x1"]) < float(bar.attrib["width"]) < float(whisker.attrib["x2"])
    assert draw_interval(None, None, None) == ""


def test_the_compact_heat_map_draws_only_what_was_counted() -> None:
    matrix = [[3, 0, 1], [0, 4, 0], [0, 0, 0]]
    drawing = ET.fromstring(
        draw_compact_matrix(matrix, class_names=["a", "b", "c"], targets=[(0, 2)], name="m")
    )
    assert "".join(one.attrib["d"] for one in of_class(drawing, "path", "right")).count("M") == 2
    [wrong] = of_class(drawing, "path", "wrong")
    assert wrong.attrib["d"] == "M2 0h1v1h-1z"
    [hit] = of_class(drawing, "rect", "hit")
    assert hit[0].text == "a is taken for c 1 of 4 times"
    assert (hit.attrib["x"], hit.attrib["y"]) == ("2", "0")


def test_text_in_a_drawing_cannot_become_markup() -> None:
    drawn = element("text", "<script>", title='"><b>')
    assert drawn == Markup('<text title="&#34;&gt;&lt;b&gt;">&lt;script&gt;</text>')
    matrix = draw_compact_matrix([[1, 1], [0, 1]], class_names=["<i>", "&"], targets=[(0, 1)], name="m")
    assert not re.search(r"<i>", matrix)
