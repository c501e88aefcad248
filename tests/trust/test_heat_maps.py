from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from classifold.trust.faithfulness import draw_random_maps, measure_faithfulness
from classifold.trust.heat_maps import Explainer, estimate_map, normalize
from classifold.trust.overlay import colourize, draw_overlay
from made_spots import GRID, SIZE, paint_spot, spot_model


@pytest.fixture(scope="module", params=[True, False], ids=["class maps", "masks"])
def explainer(request: pytest.FixtureRequest) -> Explainer:
    return Explainer(*spot_model(class_maps=request.param))


def test_the_heat_map_points_at_what_the_model_looks_at_and_is_shown(explainer: Explainer) -> None:
    (found,) = explainer.explain(paint_spot()[None], [0])
    row, column = np.unravel_index(found.values.argmax(), found.values.shape)
    scale = SIZE / found.values.shape[0]
    assert 16 <= (row + 0.5) * scale <= 24
    assert 20 <= (column + 0.5) * scale <= 28
    assert found.values.max() == 1
    assert found.values.min() == 0
    assert found.is_shown
    assert found.faithfulness.insertion > found.faithfulness.deletion
    assert found.faithfulness.num_beaten == found.faithfulness.num_random == 19


def test_the_map_of_a_blank_picture_is_not_shown(explainer: Explainer) -> None:
    blank = np.full((1, SIZE, SIZE, 3), 127, np.uint8)
    (found,) = explainer.explain(blank, [1])
    assert not found.is_shown


def test_what_speaks_against_a_class_is_not_shown_as_speaking_for_it() -> None:
    (found,) = Explainer(*spot_model(class_maps=True)).explain(paint_spot()[None], [1])
    assert found.values[4:6, 5:7].max() == 0


def test_a_picture_gets_the_same_map_and_figures_alone_and_in_a_batch(explainer: Explainer) -> None:
    pixels = np.stack([paint_spot(), paint_spot(top=4, left=4)])
    together = explainer.explain(pixels, [0, 2])
    for index, wanted in enumerate([0, 2]):
        (alone,) = explainer.explain(pixels[index][None], [wanted])
        np.testing.assert_array_equal(alone.values, together[index].values)
        assert alone.faithfulness == together[index].faithfulness


def test_no_pictures_give_no_maps(explainer: Explainer) -> None:
    assert explainer.explain(np.zeros((0, SIZE, SIZE, 3), np.uint8), []) == []


@pytest.mark.parametrize("classes", [[3], [-1], [0, 1]])
def test_a_class_that_is_not_there_is_refused(explainer: Explainer, classes: list[int]) -> None:
    with pytest.raises(ValueError, match="class"):
        explainer.explain(paint_spot()[None], classes)


def test_a_map_that_is_placed_at_random_is_shown_at_most_1_time_in_20() -> None:
    def ask(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        share = pictures[:, 16:24, 20:28, 0].mean(axis=(1, 2)) / 255
        return np.stack([share, 1 - share], axis=1).astype(np.float32)

    rng = np.random.default_rng(0)
    shown, trials = 0, 200
    base = np.zeros((GRID, GRID), np.float32)
    base[2:4, 2:4] = rng.random((2, 2)) + 1
    base += rng.random(base.shape).astype(np.float32) / 10
    for _ in range(trials):
        (placed,) = draw_random_maps(base, 1, rng=rng)
        shown += measure_faithfulness(ask, paint_spot(), placed, 0, rng=rng).is_better
    assert shown <= trials / 20 + 2 * np.sqrt(trials * 0.05 * 0.95)


def test_random_maps_have_the_same_values_and_are_all_different() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    maps = draw_random_maps(values, 100, rng=np.random.default_rng(0))
    assert len(maps) == 4 * 12 - 1
    assert len({one.tobytes() for one in [values, *maps]}) == 4 * 12
    assert all(np.array_equal(np.sort(one, axis=None), values.ravel()) for one in maps)


def test_masks_find_two_places_at_once() -> None:
    def ask(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        light = pictures[..., 0].astype(np.float32) / 255
        share = 0.1 + 0.4 * (light[:, :5, :5].mean(axis=(1, 2)) + light[:, -5:, -5:].mean(axis=(1, 2)))
        return np.stack([share, 1 - share], axis=1)

    pixels = np.zeros((35, 35, 3), np.uint8)
    pixels[:5, :5] = pixels[-5:, -5:] = 255
    found = estimate_map(ask, pixels, 0, rng=np.random.default_rng(1))
    assert {tuple(place) for place in np.argwhere(found >= np.sort(found, axis=None)[-2])} == {(0, 0), (6, 6)}


def test_numbers_that_are_none_do_not_spoil_a_map() -> None:
    values = normalize(np.array([[np.nan, -np.inf], [2.0, 4.0]], np.float32))
    np.testing.assert_array_equal(values, [[0, 0], [0.5, 1]])
    assert not normalize(np.full((2, 2), -1, np.float32)).any()


def test_an_overlay_has_the_proportions_of_its_picture_and_is_brightest_where_it_is_hot() -> None:
    heat = np.zeros((7, 7), np.float32)
    heat[1, 5] = 1
    overlay = draw_overlay(np.full((300, 600, 3), 128, np.uint8), heat)
    assert overlay.size == (600, 300)
    light = np.asarray(overlay.convert("L"), np.float32)
    assert light[64, 471] > 1.8 * light[250, 100]


@pytest.mark.parametrize(("given", "expected"), [((20, 10), (224, 112)), ((1000, 3000), (213, 640))])
def test_small_pictures_are_enlarged_and_large_ones_reduced(
    given: tuple[int, int], expected: tuple[int, int]
) -> None:
    width, height = given
    pixels = np.zeros((height, width, 3), np.uint8)
    assert draw_overlay(pixels, np.ones((1, 1), np.float32)).size == expected


def test_more_heat_is_always_lighter() -> None:
    light = colourize(np.linspace(0, 1, 101, dtype=np.float32)) @ [0.299, 0.587, 0.114]
    assert (np.diff(light) > 0).all()
