from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifold import names
from classifold.errors import RunError
from classifold.inference import open_session
from classifold.model_card import parse_card
from classifold.trust.explained import PictureExplainer, find_reference
from classifold.trust.reference import load_reference, save_reference
from made_spots import make_spot_run, paint_spot


def open_explainer(run_dir: Path) -> PictureExplainer:
    path = run_dir / names.MODEL_ONNX
    session = open_session(path)
    card = parse_card(session.get_modelmeta().custom_metadata_map[names.MODEL_CARD], where=path)
    return PictureExplainer(session, card, find_reference(path, session, card))


def test_a_picture_gets_its_heat_map_and_the_nearest_training_pictures(tmp_path: Path) -> None:
    run_dir = make_spot_run(tmp_path / "run")
    pixels = np.stack([paint_spot("green"), paint_spot("blue")])
    green, blue = open_explainer(run_dir).explain(pixels, [1, 2])
    assert green.heat_map.is_shown
    assert green.heat_map.method == "class map"
    assert [one.key for one in green.neighbours[:2]] == ["green/1.png", "green/0.png"]
    assert blue.neighbours[0].key == "blue/1.png"
    assert blue.neighbours[0].distance == pytest.approx(0, abs=1e-3)
    assert len(blue.neighbours) == 5


def test_without_a_reference_set_there_are_heat_maps_alone(tmp_path: Path) -> None:
    run_dir = make_spot_run(tmp_path / "run", class_maps=False, with_reference=False)
    (found,) = open_explainer(run_dir).explain(paint_spot()[None], [0])
    assert found.heat_map.is_shown
    assert found.heat_map.method == "masks"
    assert found.neighbours == ()


def test_the_reference_set_of_another_model_is_refused(tmp_path: Path) -> None:
    run_dir = make_spot_run(tmp_path / "run")
    reference = load_reference(run_dir / "reference.npz")
    object.__setattr__(reference, "labels", reference.labels + 1)
    save_reference(reference, run_dir / "reference.npz")
    with pytest.raises(RunError, match=r"it does not belong to model\.onnx beside it"):
        open_explainer(run_dir)


def test_the_reference_set_of_another_run_with_the_same_shapes_is_refused(tmp_path: Path) -> None:
    run_dir = make_spot_run(tmp_path / "run", with_distance=True)
    assert open_explainer(run_dir).reference is not None
    reference = load_reference(run_dir / "reference.npz")
    others = (
        replace(reference, points=reference.points + np.float32(0.01)),
        replace(reference, scale=1.01 * reference.scale),
    )
    for other in others:
        save_reference(other, run_dir / "reference.npz")
        with pytest.raises(RunError, match=r"it does not belong to model\.onnx beside it"):
            open_explainer(run_dir)
