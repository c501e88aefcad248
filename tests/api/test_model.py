"""`classifold.load`: one picture or many, in every form, with the base install alone."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import classifold as package
from classifold.api.model import Model, load, load_picture
from classifold.api.prediction import Prediction
from classifold.errors import ClassifoldError, DataError, RunError, UsageError


@pytest.fixture
def model(colour_run: Path) -> Model:
    return load(colour_run)


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.jpg"
    Image.new("RGB", (60, 40), (250, 5, 5)).save(path)
    return path


def test_one_picture_gives_one_prediction_with_names_and_probabilities(model: Model, red: Path) -> None:
    prediction = model.predict(red)
    assert isinstance(prediction, Prediction)
    assert (prediction.label, prediction.path, prediction.error) == ("red", red, "")
    assert prediction.probability == prediction.probabilities["red"] > 0.9
    assert next(iter(prediction.probabilities)) == "red"
    values = list(prediction.probabilities.values())
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-5)
    assert set(prediction.probabilities) == set(model.class_names)
    assert repr(prediction).startswith("Prediction('red', 0.9")


def test_every_form_of_a_jpeg_gives_the_same_probabilities(model: Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    path = tmp_path / "noise.jpg"
    Image.fromarray(pixels).save(path)
    with Image.open(path) as image:
        content = path.read_bytes()
        forms = [path, str(path), content, image, Image.open(io.BytesIO(content))]
        answers = [one.probabilities for one in model.predict(forms)]
        assert all(one == answers[0] for one in answers)
        assert all(model.predict(form).probabilities == answers[0] for form in forms)


def test_a_list_keeps_its_order_and_loses_nothing(model: Model, red: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(red.read_bytes()[:100])
    blue = np.zeros((20, 30, 3), np.uint8)
    blue[..., 2] = 255
    found = model.predict([red, damaged, blue, tmp_path / "missing.png", b"no picture", str(red)])
    assert [one.label for one in found] == ["red", None, "blue", None, None, "red"]
    assert [bool(one.error) for one in found] == [False, True, False, True, True, False]
    assert "No such file" in found[3].error
    assert found[1].probabilities == {}
    assert found[1].probability is None
    assert "error=" in repr(found[1])
    assert str(damaged) in repr(found[1])


@pytest.mark.parametrize(
    "path",
    ["x" * 300, "a\0b", "~\0", "y/" * 2050, "\ud800", Path("z" * 300)],
    ids=lambda path: repr(path)[:9],
)
def test_a_path_that_cannot_be_looked_up_is_an_error_of_its_own_picture(
    model: Model, red: Path, path: Any
) -> None:
    found = model.predict([red, path, red])
    assert [one.label for one in found] == ["red", None, "red"]
    assert found[1].error
    assert found[1].path == Path(path)
    with pytest.raises(DataError):
        model.predict(path)
    with pytest.raises(DataError):
        load_picture(path)


def test_a_picture_that_may_not_be_looked_up_loses_no_other_one(
    colour_run: Path, red: Path, ordinary_python: Callable[[str, Path], str]
) -> None:
    closed = red.parent / "closed"
    closed.mkdir(0)
    code = f"""
import classifold
model = classifold.load({str(colour_run)!r})
print(model.predict(["red.jpg", "closed/a.jpg", "red.jpg"]))
"""
    said = ordinary_python(code, red.parent)
    assert said.count("Prediction('red'") == 2
    assert "error='the file cannot be opened: Permission denied', path='closed/a.jpg'" in said


def test_an_open_file_is_one_picture(model: Model, red: Path) -> None:
    with red.open("rb") as file:
        assert [model.predict(one).label for one in (file, file, io.BytesIO(red.read_bytes()))] == ["red"] * 3
        assert np.array_equal(load_picture(file), load_picture(red))
    with pytest.raises(DataError, match="picture from an open file: the open file cannot be read"):
        model.predict(file)
    found = model.predict([file, red])
    assert [one.label for one in found] == [None, "red"]
    with red.open(encoding="latin-1") as text, pytest.raises(UsageError, match="'rb'"):
        model.predict(text)  # type: ignore[call-overload]


def test_files_that_a_generator_closes_behind_it_are_read_in_time(model: Model, red: Path) -> None:
    def opened() -> Iterator[Any]:
        for _ in range(20):
            with red.open("rb") as file:
                yield file

    assert [one.label for one in model.predict_iter(opened())] == ["red"] * 20


def test_a_dict_of_pictures_is_refused_with_the_cure(model: Model, red: Path) -> None:
    for pictures in ({"a": red}, {}):
        for call in (model.predict, model.predict_iter):
            with pytest.raises(
                UsageError, match=r"got a dict\nhint: pass a list: list\(pictures.values\(\)\)"
            ):
                call(pictures)
    with pytest.raises(UsageError, match="got dict"):
        model.predict([{"a": red}])  # type: ignore[list-item]


def test_a_tilde_is_the_home_folder(
    colour_run: Path, model: Model, red: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(red.parent))
    assert model.predict("~/red.jpg").path == red
    assert [one.label for one in model.predict(["~/red.jpg", Path("~/red.jpg")])] == ["red", "red"]
    assert np.array_equal(load_picture("~/red.jpg"), load_picture(red))
    monkeypatch.setenv("HOME", str(colour_run.parent))
    assert load(f"~/{colour_run.name}").class_names == model.class_names


def test_a_path_object_may_give_bytes(colour_run: Path, model: Model, red: Path) -> None:
    class Entry:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __fspath__(self) -> bytes:
            return os.fsencode(self.path)

    assert model.predict(Entry(red)).path == red  # type: ignore[call-overload]
    assert model.predict([Entry(red)])[0].label == "red"  # type: ignore[list-item]
    assert load(Entry(colour_run)).class_names == model.class_names  # type: ignore[arg-type]


def test_a_prediction_can_be_a_key_copied_pickled_and_written_but_not_changed(
    model: Model, red: Path
) -> None:
    one, two = model.predict([red, red])
    assert one == two
    assert len({one, two}) == 1
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert json.loads(json.dumps(one.probabilities)) == one.probabilities
    assert repr(one.probabilities) == repr(dict(one.probabilities))
    assert dataclasses.asdict(one)["label"] == "red"
    changed: Any = one.probabilities
    for change in (
        lambda: changed.update(red=0.0),
        lambda: changed.__setitem__("red", 0.0),
        lambda: changed.pop("red"),
        lambda: changed.clear(),
        lambda: changed.setdefault("x", 1.0),
        lambda: changed.__ior__({"red": 0.0}),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert one == two


def test_one_unreadable_picture_raises_its_reason(model: Model, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(DataError, match=r"error: .*note\.txt: ") as caught:
        model.predict(tmp_path / "note.txt")
    assert isinstance(caught.value, ClassifoldError)
    with pytest.raises(DataError, match="picture from bytes"):
        model.predict(b"hello")


def test_top_k_keeps_the_most_probable(model: Model, red: Path) -> None:
    assert list(model.predict(red, top_k=1).probabilities) == ["red"]
    assert [len(one.probabilities) for one in model.predict([red], top_k=2)] == [2]
    assert len(model.predict(red, top_k=99).probabilities) == 3
    assert len(model.predict(red, top_k=np.int64(2)).probabilities) == 2  # type: ignore[call-overload]
    for wrong in (0, -1, 1.5, "2", True):
        with pytest.raises(UsageError, match="top_k: expected a number of classes from 1"):
            model.predict(red, top_k=wrong)  # type: ignore[arg-type]


def test_a_folder_in_a_list_stands_for_its_pictures(
    model: Model, draw_colours: Callable[..., Path], tmp_path: Path, red: Path
) -> None:
    folder = draw_colours(tmp_path / "photos", count=3)
    found = model.predict([folder, red])
    assert len(found) == 10
    assert [one.path.parent.name for one in found[:9] if one.path] == [one.label for one in found[:9]]
    with pytest.raises(UsageError, match="expected one picture, got a folder") as caught:
        model.predict(folder)
    assert "model.predict([folder])" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        model.predict([tmp_path / "empty"])


def test_an_array_of_several_pictures_is_refused_and_a_list_of_it_taken(model: Model) -> None:
    pictures = np.zeros((4, 10, 12, 3), np.uint8)
    pictures[..., 1] = 255
    with pytest.raises(UsageError, match=r"pass list\(array\)"):
        model.predict(pictures)
    assert [one.label for one in model.predict(list(pictures))] == ["green"] * 4


def test_a_column_of_paths_and_a_generator_are_lists_of_pictures(model: Model, red: Path) -> None:
    column = np.array([str(red), str(red)], dtype=object)
    assert [one.label for one in model.predict(column)] == ["red", "red"]  # type: ignore[attr-defined, call-overload, type-var]
    assert [one.label for one in model.predict(path for path in (red, red))] == ["red", "red"]
    assert model.predict([]) == []


def test_something_that_is_no_picture_is_refused_and_not_passed_over(model: Model, red: Path) -> None:
    with pytest.raises(UsageError, match="got NoneType"):
        model.predict([red, None])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="got int"):
        model.predict(5)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="float64"):
        model.predict(np.ones((4, 4, 3)))
    with pytest.raises(UsageError, match="the path is empty"):
        model.predict("")


def test_predict_iter_takes_pictures_only_as_it_goes(model: Model) -> None:
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield np.full((8, 8, 3), (0, 255, 0), np.uint8)

    answers = model.predict_iter(endless())
    assert taken == 0
    assert [next(answers).label for _ in range(50)] == ["green"] * 50
    assert taken < 50 + 5 * 64
    answers.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("predict")]


def test_a_model_knows_its_classes_and_its_size(colour_run: Path, model: Model) -> None:
    assert model.class_names == ("blue", "green", "red")
    assert model.image_size == 16
    assert repr(model) == f"Model({str(colour_run)!r}, 3 classes, pictures of 16 x 16 pixels)"


def test_a_run_folder_its_text_and_the_model_file_load_alike(colour_run: Path, red: Path) -> None:
    for run in (colour_run, str(colour_run), colour_run / "model.onnx"):
        assert load(run).predict(red).label == "red"
    with pytest.raises(RunError, match="no such run folder"):
        load("no such run")


def test_max_pixels_limits_what_is_read(colour_run: Path, red: Path) -> None:
    with pytest.raises(DataError, match="MAX_PIXELS = 100"):
        load(colour_run, max_pixels=100).predict(red)
    with pytest.raises(DataError, match="MAX_PIXELS = 100"):
        load_picture(red, max_pixels=100)
    for wrong in (0, -1, True, "many"):
        with pytest.raises(UsageError, match="max_pixels: expected a number of pixels from 1"):
            load(colour_run, max_pixels=wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="max_pixels: expected a number of pixels from 1"):
            load_picture(red, max_pixels=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("run", ["", "x" * 300, "a\0b", 3, b"an ONNX file", None])
def test_what_is_no_path_of_a_run_is_one_error(run: Any) -> None:
    with pytest.raises(UsageError, match=r"classifold\.load: ") as caught:
        load(run)
    assert len(str(caught.value)) < 250


def test_load_picture_gives_what_the_model_is_fed(red: Path) -> None:
    pixels = load_picture(red, size=20)
    assert (pixels.shape, pixels.dtype) == ((20, 20, 3), np.uint8)
    assert load_picture(red).shape == (224, 224, 3)
    with pytest.raises(DataError, match="No such file"):
        load_picture("missing.jpg")
    assert load_picture(red, size=np.int64(64)).shape == (64, 64, 3)  # type: ignore[arg-type]
    for wrong in (0, "224", None, True, 10**6, 2049, 1.5):
        with pytest.raises(UsageError, match="size: expected a number of pixels from 1 to 2048, got "):
            load_picture(red, size=wrong)  # type: ignore[arg-type]
    for bits in ("99", 7, 17, True, None, "12"):
        with pytest.raises(
            UsageError, match='sample_bits: expected a whole number from 8 to 16 or "auto", got '
        ):
            load_picture(red, sample_bits=bits)  # type: ignore[arg-type]
    assert np.array_equal(load_picture(red, sample_bits=12), load_picture(red))


def test_predicting_needs_neither_tensorflow_nor_pandas(
    run_python: Callable[..., Any], colour_run: Path, red: Path
) -> None:
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'pandas', 'sklearn', 'onnx', 'boto3', 'click'):\n"
        "    sys.modules[name] = None\n"
        "import classifold\n"
        f"print(classifold.load({str(colour_run)!r}).predict({str(red)!r}).label)\n"
    )
    answer = run_python("-c", code)
    assert (answer.code, answer.out) == (0, "red\n"), answer.err


def test_the_package_offers_these_functions(colour_run: Path) -> None:
    assert package.load is load
    assert package.Prediction is Prediction
    assert sys.modules["classifold"].load_picture is load_picture


def flat(*colour: int) -> np.ndarray:
    return np.full((20, 20, 3), colour, np.uint8)


def test_a_prediction_says_whether_the_picture_is_unknown_and_keeps_the_best_guess(
    judging_run: Path, tmp_path: Path
) -> None:
    red, white, missing = load(judging_run).predict([flat(255, 0, 0), flat(255, 255, 255), tmp_path / "none"])
    assert (red.unknown, red.distance) == (False, pytest.approx(0, abs=1e-6))
    assert (white.unknown, white.label, white.distance) == (True, "red", pytest.approx(4))
    assert (missing.unknown, missing.distance, missing.label) == (None, None, None)
    assert repr(white) == "Prediction('red', 0.333, unknown=True)"
    assert "unknown" not in repr(red)
    assert pickle.loads(pickle.dumps(white)) == white


def test_a_model_has_the_rule_that_it_was_loaded_with(judging_run: Path) -> None:
    dim, white = flat(140, 0, 0), flat(255, 255, 255)
    for options, expected in (
        ({}, [False, True]),
        ({"threshold": 0.9}, [True, True]),
        ({"threshold": np.float32(0)}, [False, True]),
        ({"error": 0.02}, [True, True]),
        ({"always_answer": True}, [False, False]),
    ):
        model = load(judging_run, **options)
        assert [one.unknown for one in model.predict([dim, white])] == expected
        assert [model.predict(one).unknown for one in (dim, white)] == expected


def test_a_model_of_an_earlier_release_answers_always(model: Model, colour_run: Path) -> None:
    prediction = model.predict(flat(255, 255, 255))
    assert (prediction.unknown, prediction.distance) == (False, None)
    assert load(colour_run, threshold=0.9).predict(flat(255, 255, 255)).unknown
    with pytest.raises(UsageError, match="made before errors could be promised"):
        load(colour_run, error=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.5}, "threshold: expected a probability from 0 to 1, got 1.5"),
        ({"threshold": float("nan")}, "threshold: expected a probability from 0 to 1, got nan"),
        ({"threshold": True}, "threshold: expected a probability from 0 to 1, got True"),
        ({"threshold": "0.8"}, "threshold: expected a probability from 0 to 1, got '0.8'"),
        ({"threshold": [0.8]}, "threshold: expected a probability from 0 to 1, got"),
        ({"error": 0}, "error: expected a share between 0 and 1, such as 0.01, got 0"),
        ({"error": 1}, "error: expected a share between 0 and 1, such as 0.01, got 1"),
        ({"error": 0.1, "threshold": 0}, "classifold.load: threshold and error exclude each other"),
        ({"error": 0.01}, "can promise is 0.02"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(judging_run: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        load(judging_run, **options)


def test_what_a_folder_holds_besides_pictures_is_counted_on_standard_error(
    colour_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    (tmp_path / "red.xmp").write_text("no picture")
    [prediction] = load(colour_run).predict([tmp_path])
    assert (prediction.label, prediction.name) == ("red", str(tmp_path / "red.png"))
    assert capfd.readouterr().err == "passed over 1 file: 1 .xmp\n"


def test_a_video_gives_a_prediction_for_each_frame_that_is_taken(colour_run: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in [(255, 0, 0)] * 10 + [(0, 0, 255)] * 10:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    found = list(load(colour_run).predict_iter([path], every=0.5))
    assert [one.label for one in found] == ["red", "red", "blue", "blue"]
    assert [one.name for one in found] == [f"{path}#t={seconds}" for seconds in ("0", "0.5", "1", "1.5")]
    assert found[1].path is None
    assert f"name='{path}#t=0.5'" in repr(found[1])


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_time_between_frames_that_is_none_is_refused(colour_run: Path, every: float) -> None:
    with pytest.raises(ClassifoldError, match="expected a number of seconds above 0"):
        load(colour_run).predict_iter([], every=every)


def test_a_text_is_never_taken_for_an_address(colour_run: Path) -> None:
    [prediction] = load(colour_run).predict(["http://127.0.0.1:1/a.png"])
    assert prediction.error == "the file cannot be opened: No such file or directory"
