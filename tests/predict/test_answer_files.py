from __future__ import annotations

from pathlib import Path

import pytest

from classifold.errors import DiskError
from classifold.predict.answer_files import open_rows
from classifold.predict.answer_formats import OUTPUT_FORMATS, OutputFormat
from classifold.predict.predictor import Prediction
from classifold.predict.sources import file_source

NAMES = ("daisy", "roses")


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_a_file_of_answers_replaces_the_earlier_one_only_when_it_is_complete(
    output_format: OutputFormat, tmp_path: Path
) -> None:
    path = tmp_path / "answers"
    path.write_text("before")

    def write_half() -> None:
        with open_rows(path, output_format=output_format, class_names=NAMES, top_k=1) as rows:
            rows.write(Prediction(file_source(Path("a.jpg")), error="cut short"), [])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("output_format", ["csv", "parquet"])
def test_an_answers_file_below_a_file_is_refused_in_words(
    output_format: OutputFormat, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError),
        open_rows(tmp_path / "file" / "a", output_format=output_format, class_names=NAMES, top_k=1),
    ):
        pass
