from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.errors import DiskError
from classifold.predict.answer_files import open_rows
from classifold.predict.answer_formats import OUTPUT_FORMATS, TEXT_FORMATS, OutputFormat, TextFormat
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


def test_the_exit_code_and_standard_error_say_what_could_not_be_read(
    classifold: Callable[..., Any], run_dir: Path, save_plain: Callable[..., Path], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    save_plain(photos / "red.png")
    for words in ((), ("--threshold", "1")):  # unknown is an answer
        answer = classifold("predict", run_dir, photos, "--format", "jsonl", *words)
        assert (answer.code, answer.err) == (0, "")
    (photos / "bad.png").write_bytes(b"no picture")
    answer = classifold("predict", run_dir, photos, "--format", "jsonl")
    assert answer.code == 1
    assert answer.err.startswith(f"1 picture could not be read: {photos}/bad.png: ")
    assert [json.loads(line)["error"] is None for line in answer.out.splitlines()] == [False, True]


@pytest.mark.parametrize("output_format", TEXT_FORMATS)
def test_a_reader_that_has_seen_enough_ends_predict_quietly(
    colour_run: Path, save_plain: Callable[..., Path], tmp_path: Path, output_format: TextFormat
) -> None:
    picture = save_plain(tmp_path / "red.png")
    words = ["predict", str(colour_run), *[str(picture)] * 3000, "--format", output_format]
    command = [sys.executable, "-P", "-m", "classifold", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
