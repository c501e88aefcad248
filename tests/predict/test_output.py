from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.predict.answer_formats import (
    TEXT_FORMATS,
    TextFormat,
    choose_format,
    describe_contradiction,
)
from classifold.predict.output import write_predictions
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import rank_classes
from classifold.predict.sources import file_source
from classifold.trust.answering import Rule

RULE = Rule(0.8, 1.0)
NAMES = ("daisy", "roses", "tulips")


def answer(path: str, *shares: float, unknown: bool = False, distance: float | None = None) -> Prediction:
    return Prediction(
        file_source(Path(path)), np.array(shares, np.float32), unknown=unknown, distance=distance
    )


PREDICTIONS = [
    answer("photos/one.jpg", 0.05, 0.9, 0.05),
    Prediction(file_source(Path("photos/broken.jpg")), error="the file is cut short"),
    answer("photos/two, or 2.jpg", 0.25, 0.25, 0.5),
]


def printed(
    predictions: list[Prediction],
    output_format: TextFormat,
    top_k: int = 3,
    class_names: tuple[str, ...] = NAMES,
    rule: Rule | None = None,
) -> tuple[str, int]:
    stream = io.StringIO()
    written = write_predictions(
        predictions,
        output_format=output_format,
        top_k=top_k,
        class_names=class_names,
        stream=stream,
        rule=rule,
    )
    return stream.getvalue(), written.unreadable


def test_text_is_aligned_with_the_best_name_first() -> None:
    text, _ = printed(PREDICTIONS, "text", top_k=2)
    assert text == (
        "roses       90.0 %   daisy        5.0 %   photos/one.jpg\n"
        "unreadable           photos/broken.jpg: the file is cut short\n"
        "tulips      50.0 %   daisy       25.0 %   photos/two, or 2.jpg\n"
    )


JUDGED = [
    answer("one.jpg", 0.05, 0.9, 0.05, distance=0.4321987654),
    answer("two.jpg", 0.25, 0.25, 0.5, unknown=True, distance=1.0),
    answer("noise.png", 0.02, 0.97, 0.01, unknown=True, distance=3.2109876),
    Prediction(file_source(Path("broken.jpg")), error="the file is cut short"),
]


def test_an_unknown_picture_is_seen_at_once_with_the_best_guess_and_the_reason() -> None:
    text, _ = printed(JUDGED, "text", top_k=1, rule=RULE)
    assert text == (
        "roses              90.0 %   one.jpg\n"
        "unknown (tulips?)  50.0 %   two.jpg: unsure (below 80 %)\n"
        "unknown (roses?)   97.0 %   noise.png: unlike the training pictures (distance 3.21)\n"
        "unreadable                  broken.jpg: the file is cut short\n"
    )


def test_unknown_pictures_leave_further_classes_and_paths_aligned() -> None:
    text, _ = printed(JUDGED[:3], "text", top_k=2, rule=RULE)
    assert [
        line.index(end) for line, end in zip(text.splitlines(), ("one", "two", "noise"), strict=True)
    ] == [49] * 3
    assert text.splitlines()[1].startswith("unknown (tulips?)  50.0 %   daisy       25.0 %   two.jpg")


def test_a_model_that_always_answers_leaves_no_room_for_unknown_pictures() -> None:
    assert printed(PREDICTIONS, "text", 2, rule=Rule()) == printed(PREDICTIONS, "text", 2)
    assert printed([answer("a", 0, 1, 0)], "text", 1)[0] == "roses      100.0 %   a\n"


def test_csv_and_json_say_which_are_unknown_and_how_far_and_keep_the_best_class() -> None:
    rows = list(csv.DictReader(io.StringIO(printed(JUDGED, "csv", 1)[0])))
    assert [row["unknown"] for row in rows] == ["false", "true", "true", ""]
    assert [row["distance"] for row in rows] == ["0.432199", "1", "3.21099", ""]
    assert [row["predicted_class"] for row in rows] == ["roses", "tulips", "roses", ""]
    objects = json.loads(printed(JUDGED, "json")[0])
    assert [one["unknown"] for one in objects] == [False, True, True, None]
    assert [one["distance"] for one in objects] == [0.432199, 1, 3.21099, None]
    assert list(objects[0]) == list(objects[3])
    assert list(objects[0])[-3:] == ["error", "unknown", "distance"]


@pytest.mark.parametrize("distance", [float("nan"), float("inf")])
def test_a_distance_that_is_no_number_is_left_out_and_the_file_still_reads(distance: float) -> None:
    far = answer("a", 1, 0, 0, unknown=True, distance=distance)
    assert printed([far], "csv", 1)[0].splitlines()[1] == "a,daisy,1,,true,"
    [row] = json.loads(printed([far], "json")[0], parse_constant=pytest.fail)
    assert (row["unknown"], row["distance"]) == (True, None)
    assert "unlike the training pictures" in printed([far], "text", rule=RULE)[0]


def test_text_is_aligned_for_names_in_wide_scripts_too() -> None:
    text, _ = printed(
        [answer("a", 0.7, 0.3), answer("b", 0.2, 0.8)], "text", 1, ("たんぽぽ・フランス", "rosé")
    )
    first, second = text.splitlines()
    # Nine wide characters take eighteen columns.
    assert first == "たんぽぽ・フランス  70.0 %   a"
    assert second == "rosé                80.0 %   b"


def test_text_cannot_break_its_line_or_steer_the_terminal() -> None:
    text, _ = printed([answer("evil\n\x1b[2J.jpg", 1.0)], "text", 1, ("red\x1b[31m",))
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert r"evil\n\x1b[2J.jpg" in text


def test_csv_has_a_row_a_picture_and_as_many_columns_in_each() -> None:
    text, _ = printed(PREDICTIONS, "csv", top_k=2)
    assert text == (
        "path,predicted_class,confidence,class_2,confidence_2,error,unknown,distance\n"
        "photos/one.jpg,roses,0.9,daisy,0.05,,false,\n"
        "photos/broken.jpg,,,,,the file is cut short,,\n"
        '"photos/two, or 2.jpg",tulips,0.5,daisy,0.25,,false,\n'
    )


@pytest.mark.parametrize(
    "name", ["=1+1", "+3", "-0.5", "@x", "\ttab", "\rreturn", "'quoted", '=HYPERLINK("x")']
)
def test_csv_gives_names_back_that_a_sheet_could_take_for_formulas(name: str) -> None:
    text, _ = printed([answer(f"{name}.jpg", 1.0)], "csv", 1, (name,))
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    empty = {"error": "", "unknown": "false", "distance": ""}
    assert row == {"path": f"{name}.jpg", "predicted_class": name, "confidence": "1", **empty}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_csv_is_exact_for_programs_and_cannot_steer_a_terminal() -> None:
    name = "evil\x1b[31m\nred\u202e.jpg"
    text, _ = printed([answer(name, 1.0)], "csv", 1, ("a\x9b2J",))
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["path"], row["predicted_class"]) == (name, "a\x9b2J")

    shown = Terminal()
    predictions = [answer(name, 1.0), Prediction(file_source(Path("\x07")), error="\x1b]0;title\x07")]
    write_predictions(predictions, output_format="csv", top_k=1, class_names=("a\x9b2J",), stream=shown)
    assert shown.getvalue().splitlines() == [
        "path,predicted_class,confidence,error,unknown,distance",
        r"evil\x1b[31m\nred\u202e.jpg,a\x9b2J,1,,false,",
        r"\x07,,,\x1b]0;title\x07,,",
    ]


def test_json_is_one_array_with_an_object_a_line() -> None:
    text, _ = printed(PREDICTIONS, "json", top_k=2)
    assert len(text.splitlines()) == len(PREDICTIONS) + 2
    first, broken, _ = json.loads(text)
    assert first == {
        "path": "photos/one.jpg",
        "predicted_class": "roses",
        "confidence": 0.9,
        "classes": [{"class_name": "roses", "confidence": 0.9}, {"class_name": "daisy", "confidence": 0.05}],
        "error": None,
        "unknown": False,
        "distance": None,
    }
    assert broken == {
        "path": "photos/broken.jpg",
        "predicted_class": None,
        "confidence": None,
        "classes": [],
        "error": "the file is cut short",
        "unknown": None,
        "distance": None,
    }


class _Pipe(io.StringIO):
    """A stream that knows what has been sent off."""

    sent = ""

    def flush(self) -> None:
        self.sent = self.getvalue()


def test_json_lines_are_sent_off_one_by_one_so_that_half_a_file_can_be_read() -> None:
    pipe, seen = _Pipe(), []

    def slowly() -> Iterator[Prediction]:
        for prediction in JUDGED:
            seen.append([json.loads(line)["path"] for line in pipe.sent.splitlines()])
            yield prediction

    write_predictions(slowly(), output_format="jsonl", top_k=2, class_names=NAMES, stream=pipe)
    names = [prediction.name for prediction in JUDGED]
    assert seen == [names[:count] for count in range(4)]
    assert [json.loads(line) for line in pipe.sent.splitlines()] == json.loads(printed(JUDGED, "json", 2)[0])


@pytest.mark.parametrize("output_format", TEXT_FORMATS)
def test_the_number_of_unreadable_pictures_is_returned(output_format: TextFormat) -> None:
    assert printed(PREDICTIONS, output_format)[1] == 1
    assert printed(PREDICTIONS[:1], output_format)[1] == 0


def test_no_pictures_still_make_a_valid_file() -> None:
    assert json.loads(printed([], "json")[0]) == []
    assert printed([], "csv", 1)[0] == "path,predicted_class,confidence,error,unknown,distance\n"
    assert printed([], "text")[0] == printed([], "jsonl")[0] == ""


@pytest.mark.parametrize("top_k", [3, 4, 1000])
def test_more_than_all_classes_are_all_classes(top_k: int) -> None:
    for output_format in TEXT_FORMATS:
        assert printed(PREDICTIONS, output_format, top_k) == printed(PREDICTIONS, output_format, 3)
    assert len(json.loads(printed(PREDICTIONS, "json", top_k)[0])[0]["classes"]) == 3


def test_equal_probabilities_come_in_the_order_of_the_classes() -> None:
    even = answer("a", *[1 / 3] * 3)
    assert [name for name, _ in rank_classes(even, NAMES, top_k=3)] == list(NAMES)
    assert rank_classes(PREDICTIONS[1], NAMES, top_k=3) == []


def test_a_small_probability_is_not_rounded_to_nothing() -> None:
    text, _ = printed([answer("a", 1 - 1e-7, 1.25e-7)], "csv", 2, ("x", "y"))
    assert float(text.splitlines()[1].split(",")[4]) == pytest.approx(1.25e-7, rel=1e-5)


@pytest.mark.parametrize("output_format", TEXT_FORMATS)
def test_a_path_that_is_no_utf8_can_be_printed(output_format: TextFormat) -> None:
    path = os.fsdecode(b"caf\xe9.jpg")
    text, _ = printed([answer(path, 1, 0, 0)], output_format)
    text.encode("utf-8")  # what a file or a pipe does with it
    assert "caf" in text


def test_answers_are_written_while_they_come() -> None:
    stream = io.StringIO()
    seen: list[int] = []

    def slowly() -> Iterator[Prediction]:
        for prediction in PREDICTIONS:
            seen.append(stream.getvalue().count("\n"))
            yield prediction

    write_predictions(slowly(), output_format="csv", top_k=1, class_names=NAMES, stream=stream)
    assert seen == [1, 2, 3]


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5, unique=True),
    paths=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=4
    ),
    error=st.text(max_size=20),
)
def test_whatever_the_names_are_csv_json_and_json_lines_read_back(
    names: list[str], paths: list[str], error: str
) -> None:
    shares = np.linspace(1, 2, len(names), dtype=np.float32)
    shares /= shares.sum()
    given_ = [Prediction(file_source(Path(path)), shares) for path in paths] + [
        Prediction(file_source(Path("bad")), error=error)
    ]
    wanted = [str(prediction.path) for prediction in given_]

    csv_text, _ = printed(given_, "csv", 2, tuple(names))
    header, *rows = csv.reader(io.StringIO(csv_text, newline=""))
    assert [row[0] for row in rows] == wanted
    assert {len(row) for row in rows} == {len(header)}
    assert all(row[1] == names[-1] for row in rows[:-1])

    objects = json.loads(printed(given_, "json", 2, tuple(names))[0])
    assert [item["path"] for item in objects] == wanted
    assert all(item["predicted_class"] == names[-1] for item in objects[:-1])
    assert objects[-1]["error"] == error

    lines = printed(given_, "jsonl", 2, tuple(names))[0].split("\n")
    assert [json.loads(line) for line in lines[:-1]] == objects

    text, _ = printed(given_, "text", 2, tuple(names))
    assert len(text.splitlines()) == len(given_)


def test_the_ending_of_the_file_gives_the_format_unless_one_is_named() -> None:
    assert choose_format(None, None) == "text"
    assert choose_format(None, Path("names.CSV")) == "csv"
    assert choose_format(None, Path("names.json")) == "json"
    assert choose_format(None, Path("names.jsonl")) == "jsonl"
    assert choose_format(None, Path("names.NDJSON")) == "jsonl"
    assert choose_format(None, Path("names.parquet")) == "parquet"
    assert choose_format(None, Path("names.txt")) == "text"
    assert choose_format("text", Path("names.csv")) == "text"
    assert describe_contradiction("csv", Path("names.csv")) == ""
    assert describe_contradiction("text", Path("names")) == ""
    assert describe_contradiction("json", None) == ""
    assert describe_contradiction("json", Path("names.csv")) == (
        "names.csv gets the format 'json', as --format says, although its ending is that of 'csv'"
    )


def test_what_was_written_is_told_with_the_first_reasons() -> None:
    broken = [Prediction(file_source(Path(f"{number}.jpg")), error="cut short") for number in range(5)]
    written = write_predictions(
        [PREDICTIONS[0], *broken], output_format="csv", top_k=1, class_names=NAMES, stream=io.StringIO()
    )
    assert written.describe(Path("names.csv")) == [
        "1 picture was classified; the answers are in names.csv",
        "5 pictures could not be read:",
        "  0.jpg: cut short",
        "  1.jpg: cut short",
        "  2.jpg: cut short",
        "  and 2 more, with the reasons in the answers",
    ]


def test_what_was_written_counts_the_unknown_pictures() -> None:
    written = write_predictions(
        JUDGED, output_format="csv", top_k=1, class_names=NAMES, stream=io.StringIO(), rule=RULE
    )
    assert (written.classified, written.unknown, written.unreadable) == (3, 2, 1)
    assert written.describe(Path("names.csv"))[0] == (
        "3 pictures were classified, 2 of them as unknown; the answers are in names.csv"
    )
