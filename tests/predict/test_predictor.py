from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from classifold.errors import DataError, RunError
from classifold.predict.predictor import load_predictor

Save = Callable[..., Path]


def softmax(*logits: float) -> np.ndarray:
    powers = np.exp(np.array(logits))
    return powers / powers.sum()


def fault_of(run: Path) -> tuple[str, str, str]:
    with pytest.raises(RunError) as caught:
        load_predictor(run)
    fault = caught.value.faults[0]
    return fault.where, fault.what, fault.hint


# Answers


def test_probabilities_are_those_worked_out_by_hand(run_dir: Path) -> None:
    predictor = load_predictor(run_dir)
    batch = np.zeros((2, 16, 16, 3), np.uint8)
    batch[0] = (255, 0, 0)
    batch[1, :8] = (0, 0, 255)  # half of the picture is blue
    answer = predictor.predict_pixels(batch)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, [softmax(4, 0, 0), softmax(0, 0, 2)], rtol=1e-6)


def test_float_and_byte_pixels_give_the_same_answer(run_dir: Path) -> None:
    predictor = load_predictor(run_dir)
    batch = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        predictor.predict_pixels(batch), predictor.predict_pixels(batch.astype(np.float32))
    )


def test_no_pixels_give_no_answers_and_wrong_shapes_are_refused(run_dir: Path) -> None:
    predictor = load_predictor(run_dir)
    assert predictor.predict_pixels(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"expected pixels of shape \(N, 16, 16, 3\), got \(16, 16, 3\)"):
        predictor.predict_pixels(np.zeros((16, 16, 3), np.uint8))


def test_the_model_file_alone_knows_its_classes_and_its_size(run_dir: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "flowers.onnx"
    alone.parent.mkdir()
    shutil.move(run_dir / "model.onnx", alone)
    predictor = load_predictor(alone)
    assert predictor.class_names == ("red", "green", "blue")
    assert (predictor.image_size, predictor.max_pixels) == (16, 1_000_000)
    assert predictor.card.run == "colours-2026-01-01-00-00-00"


def test_files_and_folders_are_answered_in_the_order_given(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    photos = tmp_path / "photos"
    for name, colour in (("b/2.png", "green"), ("b/10.png", "blue"), ("a.png", "red"), ("ä ö.png", "blue")):
        save_plain(photos / name, colour)
    single = save_plain(tmp_path / "single.png", "green")
    predictions = list(load_predictor(run_dir).predict_paths([single, photos], batch_size=2, num_workers=2))
    assert [str(p.path.relative_to(tmp_path)) for p in predictions] == [
        "single.png",
        "photos/a.png",
        "photos/ä ö.png",
        "photos/b/10.png",
        "photos/b/2.png",
    ]
    best = [int(np.argmax(p.probabilities)) for p in predictions if p.probabilities is not None]
    assert best == [1, 0, 2, 2, 1]


def test_every_batch_size_and_number_of_workers_gives_the_same_answers(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    for index in range(23):
        save_plain(tmp_path / "photos" / f"{index:02}.png", (11 * index, 255 - 11 * index, 100))
    predictor = load_predictor(run_dir)

    def answers(batch_size: int, num_workers: int) -> np.ndarray:
        found = predictor.predict_paths([tmp_path / "photos"], batch_size=batch_size, num_workers=num_workers)
        return np.stack([p.probabilities for p in found if p.probabilities is not None])

    expected = [softmax(4 * 11 * i / 255, 4 * (255 - 11 * i) / 255, 400 / 255) for i in range(23)]
    for batch_size, num_workers in ((1, 1), (4, 2), (23, 3), (64, 1)):
        np.testing.assert_allclose(answers(batch_size, num_workers), expected, rtol=1e-5)


def test_an_unreadable_picture_is_an_answer_with_a_reason_and_the_others_go_on(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    good = save_plain(tmp_path / "good.png", "red")
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:60])
    text = tmp_path / "notes.txt"
    text.write_text("no picture at all")
    first, second, third = load_predictor(run_dir).predict_paths([cut, good, text])
    assert first.probabilities is None
    assert len(first.error) > 5
    assert second.error == ""
    np.testing.assert_allclose(second.probabilities, softmax(4, 0, 0), rtol=1e-6)
    assert third.probabilities is None


def test_a_picture_beyond_the_models_number_of_pixels_is_not_decoded(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]], tmp_path: Path, save_plain: Save
) -> None:
    run_dir = make_run(card=card(max_pixels=1199))  # the pictures have 40 x 30
    [prediction] = load_predictor(run_dir).predict_paths([save_plain(tmp_path / "large.png")])
    assert prediction.probabilities is None
    assert "pixels" in prediction.error


def test_a_deep_picture_is_read_with_the_bits_of_the_card(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    red = np.full((30, 40, 3), (4095, 0, 0), ">u2")
    (tmp_path / "deep.ppm").write_bytes(b"P6 40 30 65535\n" + red.tobytes())
    for name, changes, value in (("old", {}, 15), ("new", {"sample_bits": 12}, 255)):
        predictor = load_predictor(make_run(name, card=card(**changes)))
        [prediction] = predictor.predict_paths([tmp_path / "deep.ppm"])
        pixels = np.full((1, 16, 16, 3), (value, 0, 0), np.uint8)
        np.testing.assert_allclose(prediction.probabilities, predictor.predict_pixels(pixels)[0], rtol=1e-6)
        assert predictor.card.sample_bits == changes.get("sample_bits", "auto")
    with pytest.raises(RunError, match="sample_bits"):
        load_predictor(make_run("wrong", card=card(sample_bits=17)))


def test_a_picture_that_vanishes_while_the_others_are_read_is_named(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    gone = save_plain(tmp_path / "gone.png")
    kept = save_plain(tmp_path / "kept.png")
    predictions = load_predictor(run_dir).predict_paths([gone, kept])
    gone.unlink()
    first, second = predictions
    assert first.probabilities is None
    assert first.error
    assert second.probabilities is not None


def test_all_missing_paths_are_named_before_anything_is_read(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    paths = [save_plain(tmp_path / "there.png"), tmp_path / "no.png", empty, tmp_path / "nowhere"]
    with pytest.raises(DataError) as caught:
        load_predictor(run_dir).predict_paths(paths)
    assert [fault.where for fault in caught.value.faults] == list(map(str, [paths[1], empty, paths[3]]))
    with pytest.raises(DataError, match="no pictures were named"):
        load_predictor(run_dir).predict_paths([])


def test_hidden_and_junk_files_of_a_folder_are_passed_over(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    photos = tmp_path / "photos"
    save_plain(photos / "rose.png")
    save_plain(photos / "._rose.png")
    save_plain(photos / ".cache" / "thumb.png")
    (photos / "Thumbs.db").write_bytes(b"junk")
    (photos / "notes.txt").write_text("bought on Sunday")
    found = load_predictor(run_dir).predict_paths([photos])
    assert [prediction.path.name for prediction in found] == ["rose.png"]


def test_only_a_few_pictures_are_in_memory_however_many_there_are(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    """Reading stops where nobody takes the answers: the number of files opened by then is bounded."""
    first = save_plain(tmp_path / "photos" / "0000.png")
    for index in range(1, 400):
        (first.parent / f"{index:04}.png").hardlink_to(first)
    read: list[str] = []
    sys.addaudithook(
        lambda event, details: (
            read.append(str(details[0]))
            if event == "open" and str(details[0]).startswith(str(first.parent))
            else None
        )
    )
    predictions = load_predictor(run_dir).predict_paths([first.parent], batch_size=4, num_workers=2)
    next(predictions)
    at_first = len({path for path in read if path.endswith(".png")})
    assert 1 <= at_first <= 2 * 4 + 2 + 1
    assert sum(1 for _ in predictions) == 399


def test_the_threads_end_when_the_reader_goes_away(run_dir: Path, tmp_path: Path, save_plain: Save) -> None:
    first = save_plain(tmp_path / "photos" / "000.png")
    for index in range(1, 100):
        (first.parent / f"{index:03}.png").hardlink_to(first)
    before = threading.active_count()
    predictions = load_predictor(run_dir).predict_paths([first.parent], batch_size=2, num_workers=2)
    next(predictions)
    predictions.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_one_predictor_serves_several_threads(run_dir: Path) -> None:
    predictor = load_predictor(run_dir)
    answers: dict[int, np.ndarray] = {}

    def ask(value: int) -> None:
        for _ in range(20):
            answers[value] = predictor.predict_pixels(np.full((2, 16, 16, 3), (value, 0, 0), np.uint8))

    threads = [threading.Thread(target=ask, args=(value,)) for value in (0, 85, 170, 255)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value, answer in answers.items():
        np.testing.assert_allclose(answer, [softmax(4 * value / 255, 0, 0)] * 2, rtol=1e-6)


# Runs that cannot be used


def test_a_missing_run_offers_the_one_with_a_similar_name(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    made = make_run("runs/flowers-2026-01-01-00-00-00")
    where, what, hint = fault_of(tmp_path / "runs" / "flowers-2026-01-01-00-00-01")
    assert where.endswith("-01")
    assert what == "no such run folder or model"
    assert hint == f"did you mean {made}?"
    assert "classifold train" in fault_of(tmp_path / "nothing" / "like it")[2]


def test_the_folder_of_all_runs_names_the_newest(make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run("runs/a")
    newest = make_run("runs/b")
    _, what, hint = fault_of(tmp_path / "runs")
    assert "holds 2 runs" in what
    assert str(newest) in hint


def test_a_folder_without_a_model_says_what_is_expected(tmp_path: Path) -> None:
    _, what, hint = fault_of(tmp_path)
    assert what == "no model.onnx in this folder"
    assert "classifold train" in hint


def test_the_folder_of_an_interrupted_run_says_how_to_finish_it(tmp_path: Path) -> None:
    folder = tmp_path / "roses-2026-01-01-00-00-00.interrupted"
    folder.mkdir()
    _, what, hint = fault_of(folder)
    assert what == "this run was interrupted: its best model so far is here as model.keras, no other format"
    assert hint == f"finish it: classifold train --resume; or start from it: classifold train --from {folder}"


@pytest.mark.parametrize(
    ("name", "words"),
    [("model.h5", "another file"), ("photo.jpg", "another file")],
)
def test_another_file_says_what_is_expected(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    _, what, hint = fault_of(tmp_path / name)
    assert words in what
    assert "expected a run folder or model.onnx" in what
    assert hint


def test_a_pipe_is_no_model_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    assert "expected a run folder or model.onnx" in fault_of(tmp_path / "model.onnx")[1]


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x08\x12\x03abc", bytes(1000)])
def test_a_file_that_is_no_model_is_a_run_error(run_dir: Path, content: bytes) -> None:
    (run_dir / "model.onnx").write_bytes(content)
    where, _, hint = fault_of(run_dir)
    assert where == str(run_dir / "model.onnx")
    assert hint


def test_a_model_cut_short_anywhere_is_a_run_error_and_never_a_crash(run_dir: Path) -> None:
    path = run_dir / "model.onnx"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError):
            load_predictor(run_dir)


def test_a_model_without_a_card_is_refused(tmp_path: Path, save_model: Callable[..., None]) -> None:
    save_model(tmp_path / "bare.onnx", None)
    _, what, hint = fault_of(tmp_path / "bare.onnx")
    assert "no model card" in what
    assert hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ["red", "green"]}, "names 2 classes, the model's output has shape (1, 3)"),
        ({"class_names": ["red", "green", "red"]}, "a class name comes twice"),
        ({"class_names": "red"}, "class_names"),
        ({"image_size": 32}, "does not accept pictures of 32 x 32 pixels"),
        ({"image_size": "16"}, "image_size"),
        ({"output": "logits"}, "the output 'logits', the model has probabilities"),
        ({"input": {"name": "image"}}, "the input 'image', the model has pixels"),
        ({"input": {"layout": "NCHW"}}, "input.layout"),
        ({"input": {"range": [0, 1]}}, "input.range"),
        ({"resize": "crop, bicubic"}, "resize"),
        ({"format": 2}, "format"),
    ],
)
def test_a_card_that_does_not_agree_with_the_model_is_refused(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]], change: dict[str, Any], words: str
) -> None:
    where, what, hint = fault_of(make_run(card=card(**change)))
    assert words in what
    assert where.endswith("model.onnx")
    assert hint


def test_a_card_that_is_no_json_is_refused(make_run: Callable[..., Path]) -> None:
    assert "model card's text is wrong" in fault_of(make_run(card="{not json"))[1]


def test_every_fault_of_a_card_is_told_at_once(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(RunError) as caught:
        load_predictor(make_run(card=card(image_size=-1, max_pixels=0, class_names=[])))
    assert len(caught.value.faults) == 3


def test_a_newer_card_asks_for_an_upgrade(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]]
) -> None:
    assert "upgrade classifold" in fault_of(make_run(card=card(format=2)))[2]


def test_keys_that_a_later_release_adds_to_the_card_do_no_harm(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]]
) -> None:
    assert load_predictor(make_run(card=card(licence="Apache-2.0"))).class_names[0] == "red"


def test_a_model_that_gives_no_probabilities_is_refused(run_dir: Path) -> None:
    model = onnx.load(run_dir / "model.onnx")
    model.graph.node[-1].op_type = "Identity"
    del model.graph.node[-1].attribute[:]
    model.graph.node[3].input[1] = "weights"
    onnx.save(model, run_dir / "model.onnx")
    assert "not probabilities" in fault_of(run_dir)[1]


# Models from elsewhere


@pytest.mark.parametrize(
    ("stated", "given", "expected"),
    [(1_000_000, None, 1_000_000), (10**12, None, 100_000_000), (10**12, 10**9, 10**9), (10, 10**9, 10**9)],
)
def test_the_card_bounds_the_pixels_of_a_picture_up_to_the_default_unless_somebody_says_more(
    make_run: Callable[..., Path],
    card: Callable[..., dict[str, Any]],
    stated: int,
    given: int | None,
    expected: int,
) -> None:
    predictor = load_predictor(make_run(card=card(max_pixels=stated)), max_pixels=given)
    assert predictor.max_pixels == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 4096}, "image_size is wrong"),
        ({"image_size": float("nan")}, "image_size is wrong"),
        ({"image_size": 16.5}, "image_size is wrong"),
        ({"image_size": True}, "image_size is wrong"),
        ({"max_pixels": float("inf")}, "max_pixels is wrong"),
        ({"class_names": ["red", "green", "b" * 2_000]}, "class_names.2 is wrong"),
        ({"class_names": ["red", "green", ""]}, "class_names.2 is wrong"),
        ({"class_names": [str(number) for number in range(200_000)]}, "class_names is wrong"),
        ({"backbone": "b" * 2_000}, "backbone is wrong"),
    ],
)
def test_a_card_that_no_training_writes_is_refused_in_one_line(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(RunError) as caught:
        load_predictor(make_run(card=card(**change)))
    assert words in caught.value.faults[0].what
    assert len(str(caught.value).splitlines()) == 2


def test_a_card_of_nothing_but_faults_is_told_in_a_few_lines(
    make_run: Callable[..., Path], card: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(RunError) as caught:
        load_predictor(make_run(card=card(class_names=list(range(1_000)))))
    assert len(caught.value.faults) == 5
    assert "card" in fault_of(make_run("deep", card="[" * 100_000))[1]


def test_a_model_whose_weights_are_other_files_of_this_machine_is_not_opened(run_dir: Path) -> None:
    model = onnx.load(run_dir / "model.onnx")
    [weights] = model.graph.initializer
    (run_dir / "secret").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="secret")
    (run_dir / "model.onnx").write_bytes(model.SerializeToString())
    where, what, hint = fault_of(run_dir)
    assert where == str(run_dir / "model.onnx")
    assert what == "this model cannot be opened: its weights are in another file (external data)"
    assert hint


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone bounds the memory of a process")
def test_a_model_that_asks_for_all_memory_is_refused(run_dir: Path) -> None:
    model = onnx.load(run_dir / "model.onnx")
    terabyte = onnx.numpy_helper.from_array(np.array([1 << 38], np.int64), "shape")
    model.graph.initializer.append(terabyte)
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        onnx.helper.make_node("ReduceSum", ["large"], ["nothing"], keepdims=0),
        onnx.helper.make_node("Add", ["pixels", "nothing"], ["more"]),
    ]
    model.graph.node[0].input[0] = "more"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    onnx.save(model, run_dir / "model.onnx")
    assert "it needs more memory than is allowed" in fault_of(run_dir)[1]


# The base install


def test_predicting_loads_neither_tensorflow_nor_anything_else_of_training(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    save_plain(tmp_path / "rose.png")
    program = (
        "import io, json, sys\n"
        "from pathlib import Path\n"
        "from classifold.predict.output import write_predictions\n"
        "from classifold.predict.predictor import load_predictor\n"
        "predictor = load_predictor(Path(sys.argv[1]))\n"
        "found = predictor.predict_paths([Path(sys.argv[2])])\n"
        "text = io.StringIO()\n"
        "names = predictor.class_names\n"
        "write_predictions(found, output_format='json', top_k=1, class_names=names, stream=text)\n"
        "print(json.dumps([sorted(sys.modules), json.loads(text.getvalue())]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(run_dir), str(tmp_path / "rose.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    modules, [answer] = json.loads(done.stdout)
    assert done.stderr == ""
    assert answer["predicted_class"] == "red"
    heavy = {"tensorflow", "keras", "tf_keras", "sklearn", "onnx", "scipy", "cv2", "jax", "torch"}
    assert heavy.isdisjoint(modules)
