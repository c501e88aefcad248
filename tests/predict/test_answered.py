from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.errors import DataError
from classifold.predict.answered import Answered, StreamFormat, open_appended, read_answered
from classifold.predict.output import write_predictions
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import rank_classes
from classifold.predict.sources import file_source

FORMATS = ["csv", "jsonl"]
CLASSES = ('a"b', "c\nd,")


def predictions(paths: list[str], error: str = "cut\nshort") -> list[Prediction]:
    shares = np.array([0.25, 0.75], np.float32)
    found = [Prediction(file_source(Path(path)), shares) for path in paths]
    return [*found, Prediction(file_source(Path("bad.jpg")), error=error)]


def written(paths: list[str], output_format: StreamFormat) -> bytes:
    stream = io.StringIO(newline="")
    write_predictions(
        predictions(paths), output_format=output_format, top_k=2, class_names=CLASSES, stream=stream
    )
    return stream.getvalue().encode()


def append(path: Path, output_format: StreamFormat, paths: list[str]) -> Answered:
    with open_appended(path, output_format, top_k=2) as (rows, answered):
        for prediction in predictions(paths):
            rows.write(prediction, rank_classes(prediction, CLASSES, top_k=2))
            assert path.read_bytes().endswith(b"\n")  # it is there at once
    return answered


@pytest.mark.parametrize("output_format", FORMATS)
def test_answers_are_appended_to_those_of_earlier_calls(output_format: StreamFormat, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    assert append(path, output_format, ["one.jpg"]).names == frozenset()
    answered = append(path, output_format, ["two\n.jpg"])
    assert answered.names - {""} == {"one.jpg", "bad.jpg"}
    assert read_answered(path, output_format, top_k=2).names - {""} == {"one.jpg", "two\n.jpg", "bad.jpg"}
    first, second = written(["one.jpg"], output_format), written(["two\n.jpg"], output_format)
    header = b"" if output_format == "jsonl" else second[: second.index(b"\n") + 1]
    assert path.read_bytes() == first + second.removeprefix(header)


@pytest.mark.parametrize("output_format", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=3
    ),
    share=st.floats(0, 1),
)
def test_wherever_a_file_was_cut_its_whole_answers_are_kept_and_the_rest_is_written_again(
    output_format: StreamFormat, tmp_path: Path, paths: list[str], share: float
) -> None:
    whole = written(paths, output_format)
    cut = whole[: int(share * len(whole))]
    path = tmp_path / f"cut.{output_format}"
    path.write_bytes(cut)
    names = [prediction.name for prediction in predictions(paths)]
    with open_appended(path, output_format, top_k=2) as (_, answered):
        kept = path.read_bytes()
    assert answered.names - {""} <= set(names)
    if kept:
        assert whole.startswith(kept)
    rest = written([], output_format)
    append(path, output_format, [])
    header = b"" if output_format == "jsonl" else rest[: rest.index(b"\n") + 1]
    assert path.read_bytes() == (kept or header) + rest.removeprefix(header)
    assert read_answered(path, output_format, top_k=2).names - {""} == (answered.names - {""}) | {"bad.jpg"}


@pytest.mark.parametrize(
    ("output_format", "content"),
    [
        ("csv", b"my,own,table\n1,2,3\n"),
        ("csv", b"half a header"),
        ("csv", b"\xff\xfe\n"),
        ("csv", b'"' + b"x\n" * 3_000_000),
        ("csv", written([], "csv").replace(b"class_2,confidence_2,", b"")),
        ("csv", written([], "csv") + b"1,2\n"),
        ("jsonl", b"[1]\n"),
        ("jsonl", b'{"name": "a.jpg"}\n'),
        ("jsonl", b"text"),
        ("jsonl", written(["a.jpg"], "csv")),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(
    output_format: StreamFormat, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with (
        pytest.raises(DataError, match="is no answer of predict"),
        open_appended(path, output_format, top_k=2),
    ):
        pass
    assert path.read_bytes() == content


def test_two_processes_do_not_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with open_appended(path, "jsonl", top_k=1) as (rows, _):
        rows.write(predictions([])[0], [])
        with pytest.raises(DataError, match="another process appends"), open_appended(path, "jsonl", top_k=1):
            pass
    assert json.loads(path.read_text())["path"] == "bad.jpg"


def test_a_picture_counts_as_answered_until_it_changes() -> None:
    answered = Answered(frozenset({"a.jpg"}), until=100.0)
    assert answered.has("a.jpg", changed=100.0)
    assert not answered.has("a.jpg", changed=100.5)
    assert not answered.has("b.jpg", changed=1.0)
