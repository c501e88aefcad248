"""Which pictures a model does not answer, and models whose outputs are not what their card says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from classifold.errors import RunError, UsageError
from classifold.predict.predictor import Predictor, load_predictor
from classifold.trust.answering import Rule

Save = Callable[..., Path]
# Colour, most probable class by hand, distance by hand: softmax(4, 0, 0) has 0.965 for the first.
PURE, DIM, WHITE, BLACK = (255, 0, 0), (140, 0, 0), (255, 255, 255), (0, 0, 0)


def judge(predictor: Predictor, *colours: tuple[int, int, int]) -> list[bool]:
    pixels = np.stack([np.full((16, 16, 3), colour, np.uint8) for colour in colours])
    return predictor.find_unknown(predictor.run_pixels(pixels)).tolist()


def test_a_picture_is_unknown_by_its_distance_or_its_confidence(judging_run: Path) -> None:
    # Dim red: 0.82 at 0.90. A greyer red is close enough, and too unsure.
    assert judge(load_predictor(judging_run), PURE, DIM, WHITE, (120, 90, 45)) == [False, False, True, True]


def test_a_distance_that_is_no_number_makes_a_picture_unknown(judging_run: Path) -> None:
    predictor = load_predictor(judging_run)
    outputs = predictor.run_pixels(np.zeros((1, 16, 16, 3), np.uint8))
    assert outputs.distances is not None
    assert math.isnan(outputs.distances[0])
    assert judge(predictor, BLACK) == [True]
    assert judge(load_predictor(judging_run, always=True), BLACK) == [False]


def test_the_outputs_of_one_run_are_those_worked_out_by_hand(judging_run: Path) -> None:
    pixels = np.stack([np.full((16, 16, 3), colour, np.uint8) for colour in (PURE, WHITE)])
    predictor = load_predictor(judging_run)
    outputs = predictor.run_pixels(pixels, with_embeddings=True)
    assert outputs.distances is not None
    assert outputs.embeddings is not None
    np.testing.assert_allclose(outputs.distances, [0, 4], atol=1e-6)
    np.testing.assert_allclose(outputs.embeddings, [[1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(outputs.probabilities, predictor.predict_pixels(pixels))
    assert predictor.run_pixels(pixels).embeddings is None


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"threshold": 0.0}, [False, False, True]),
        ({"threshold": 0.9}, [False, True, True]),
        ({"threshold": 1.0}, [True, True, True]),
        ({"max_error": 0.1}, [False, False, True]),
        ({"max_error": 0.05}, [False, True, True]),
        ({"always": True}, [False, False, False]),
    ],
)
def test_a_wish_replaces_the_rule_of_the_model_and_keeps_the_distance_unless_it_always_answers(
    judging_run: Path, wish: dict[str, Any], expected: list[bool]
) -> None:
    assert judge(load_predictor(judging_run, **wish), PURE, DIM, WHITE) == expected


def test_an_error_smaller_than_possible_is_refused_with_the_smallest(judging_run: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_predictor(judging_run, max_error=0.01)
    (fault,) = caught.value.faults
    assert fault.where == str(judging_run / "model.onnx")
    assert (
        fault.what == "the smallest error that the 75 evaluation pictures of this model can promise is 0.02"
    )
    assert fault.hint.startswith("use --error 0.02 ")


def test_a_model_of_an_earlier_release_answers_always_and_measures_nothing(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    predictor = load_predictor(run_dir)
    assert predictor.rule == Rule()
    [prediction] = predictor.predict_paths([save_plain(tmp_path / "white.png", WHITE)])
    assert (prediction.unknown, prediction.distance) == (False, None)
    assert judge(load_predictor(run_dir, threshold=0.9), PURE, WHITE) == [False, True]
    with pytest.raises(UsageError, match="made before errors could be promised"):
        load_predictor(run_dir, max_error=0.5)


def test_files_are_judged_with_their_distance_and_unreadable_ones_have_none(
    judging_run: Path, tmp_path: Path, save_plain: Save
) -> None:
    paths = [save_plain(tmp_path / "red.png"), save_plain(tmp_path / "white.png", WHITE)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    red, white, unread = load_predictor(judging_run).predict_paths([*paths, broken])
    assert (red.unknown, red.distance) == (False, pytest.approx(0, abs=1e-6))
    assert (white.unknown, white.distance) == (True, pytest.approx(4))
    assert unread.error
    assert (unread.unknown, unread.distance) == (False, None)


# Models from elsewhere


def change_model(run_dir: Path, change: Callable[[onnx.ModelProto], None]) -> str:
    """Change the model of a run, and return what loading it says is wrong."""
    model = onnx.load(run_dir / "model.onnx")
    change(model)
    onnx.save(model, run_dir / "model.onnx")
    with pytest.raises(RunError) as caught:
        load_predictor(run_dir)
    assert caught.value.faults[0].where == str(run_dir / "model.onnx")
    assert caught.value.faults[0].hint
    return caught.value.faults[0].what


def put_instead(name: str, operator: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    """Return a change: the output of this name is computed from what it was, and has any type and shape."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = (one for one in model.graph.node if name in one.output)
        node.output[0] = "former"
        for one in model.graph.node:
            one.input[:] = ["former" if wanted == name else wanted for wanted in one.input]
        model.graph.node.append(onnx.helper.make_node(operator, ["former"], [name], **attributes))
        (output,) = (one for one in model.graph.output if one.name == name)
        output.type.Clear()

    return change


@pytest.mark.parametrize("name", ["distance", "embedding"])
def test_an_output_that_the_card_names_and_the_model_lacks_is_refused(judging_run: Path, name: str) -> None:
    def remove(model: onnx.ModelProto) -> None:
        kept = [one for one in model.graph.output if one.name != name]
        del model.graph.output[:]
        model.graph.output.extend(kept)

    assert f"names the output '{name}', the model has probabilities, " in change_model(judging_run, remove)


def test_class_maps_are_left_to_those_who_draw_heat_maps(judging_run: Path) -> None:
    predictor = load_predictor(judging_run)
    assert predictor.card.class_maps == "class_maps"
    assert judge(predictor, PURE, WHITE) == [False, True]


@pytest.mark.parametrize(
    ("name", "operator", "words"),
    [
        ("distance", "Neg", "the model's output 'distance' is not a distance"),
        ("distance", "Log", "the model's output 'distance' is not a distance"),
        ("embedding", "Shape", "expected numbers of type tensor(float) in the model's output 'embedding'"),
        ("embedding", "SequenceConstruct", "got seq(tensor(float))"),
        (
            "embedding",
            "ReduceMax",
            "expected the shape (1, any) in the model's output 'embedding', got ()",
        ),
        ("distance", "ReduceMax", "expected the shape (1) in the model's output 'distance', got ()"),
    ],
)
def test_an_output_that_is_not_what_the_card_says_is_refused(
    judging_run: Path, name: str, operator: str, words: str
) -> None:
    reduced = {"keepdims": 0} if operator == "ReduceMax" else {}
    assert words in change_model(judging_run, put_instead(name, operator, **reduced))


@pytest.mark.parametrize(
    "answering",
    [
        {"min_confidence": 1.5},
        {"min_confidence": float("nan")},
        {"max_distance": 0, "min_confidence": 0},
        {"min_confidence": 0, "error_steps": [{"max_error": 0, "min_confidence": 0}]},
        {"min_confidence": 0, "error_steps": [{"max_error": 0.1, "min_confidence": 0}] * 1001},
        "always",
    ],
)
def test_a_rule_that_no_training_writes_is_refused(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]], answering: object
) -> None:
    with pytest.raises(RunError, match="the model card's answering"):
        load_predictor(make_run(card=card(answering=answering)))
