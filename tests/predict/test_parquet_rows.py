from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from classifold.predict.answer_files import check_format, open_rows
from classifold.predict.output import write_rows
from classifold.predict.parquet_rows import ParquetRows
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import rank_classes
from classifold.predict.sources import file_source

NAMES = ("daisy", "roses", "tulips")
SHARES = np.array([0.25, 0.7, 0.05], np.float32)


def answer(path: str, **more: Any) -> Prediction:
    return Prediction(file_source(Path(path)), SHARES, **more)


ANSWERS = [
    answer("one.jpg", distance=0.25),
    Prediction(file_source(Path("broken.jpg")), error="the file is cut short"),
    answer("noise\n=1+1.png", unknown=True, distance=3.5),
    answer("no distance.jpg"),
]


def test_a_parquet_file_has_typed_columns_and_null_for_what_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    with open_rows(path, output_format="parquet", class_names=NAMES, top_k=2) as rows:
        written = write_rows(ANSWERS, rows, class_names=NAMES, top_k=2)
    assert (written.classified, written.unknown, written.unreadable) == (3, 1, 1)
    table = pyarrow.parquet.read_table(path)
    assert {field.name: str(field.type) for field in table.schema} == {
        "path": "string",
        "predicted_class": "string",
        "confidence": "float",
        "classes": "list<element: struct<class_name: string, confidence: float>>",
        "error": "string",
        "unknown": "bool",
        "distance": "float",
    }
    first, broken, noise, last = table.to_pylist()
    confidence = float(np.float32(0.7))
    assert first == {
        "path": "one.jpg",
        "predicted_class": "roses",
        "confidence": confidence,
        "classes": [
            {"class_name": "roses", "confidence": confidence},
            {"class_name": "daisy", "confidence": 0.25},
        ],
        "error": None,
        "unknown": False,
        "distance": 0.25,
    }
    nothing = dict.fromkeys(("predicted_class", "confidence", "unknown", "distance"))
    assert broken == {"path": "broken.jpg", "classes": [], "error": "the file is cut short"} | nothing
    assert (noise["path"], noise["unknown"], noise["distance"]) == ("noise\n=1+1.png", True, 3.5)
    assert last["distance"] is None


def test_a_parquet_file_without_answers_can_be_read(tmp_path: Path) -> None:
    with open_rows(tmp_path / "none", output_format="parquet", class_names=NAMES, top_k=9) as rows:
        rows.close()
    assert pyarrow.parquet.read_table(tmp_path / "none").num_rows == 0


@pytest.mark.parametrize("top_k", [1, 1000])
def test_answers_are_written_in_groups_that_stay_small_with_many_classes_too(top_k: int) -> None:
    file = io.BytesIO()
    names = tuple(f"class {number}" for number in range(top_k))
    rows = ParquetRows(file, top_k)
    one = Prediction(file_source(Path("a.jpg")), np.full(top_k, 1 / top_k, np.float32))
    ranking = rank_classes(one, names, top_k=top_k)
    count = 8192 + 5 if top_k == 1 else 150
    for _ in range(count):
        rows.write(one, ranking)
    rows.close()
    found = pyarrow.parquet.ParquetFile(file)
    sizes = [found.metadata.row_group(number).num_rows for number in range(found.num_row_groups)]
    assert sizes == ([8192, 5] if top_k == 1 else [65, 65, 20])
    assert found.read(["path"]).num_rows == count


def test_an_interrupted_parquet_file_leaves_the_earlier_one_in_silence(
    tmp_path: Path,
) -> None:
    path = tmp_path / "answers.parquet"
    path.write_bytes(b"earlier")

    def interrupted() -> Iterator[Prediction]:
        yield ANSWERS[0]
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        open_rows(path, output_format="parquet", class_names=NAMES, top_k=1) as rows,
    ):
        write_rows(interrupted(), rows, class_names=NAMES, top_k=1)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_on_standard_output_is_refused_before_the_model_is_read(
    classifold: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    answer = classifold("predict", tmp_path / "run", tmp_path, "--format", "parquet")
    assert answer.code == 2
    assert "error: --format parquet: a Parquet file can only be read when it is complete" in answer.err
    assert "hint: add --output FILE, or choose csv or jsonl" in answer.err


def test_without_pyarrow_its_install_is_named_before_the_model_is_read(tmp_path: Path) -> None:
    program = (
        "import sys\nsys.modules['pyarrow'] = None\nfrom classifold.cli.main import main\nsys.exit(main())\n"
    )
    words = ["predict", tmp_path, tmp_path, "--output", tmp_path / "a.parquet"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: pyarrow: writing a Parquet file needs pyarrow, which is not installed" in done.stderr
    assert 'hint: install it with `pip install "classifold[parquet]' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_other_formats_need_nothing() -> None:
    for name in ("text", "csv", "json", "jsonl"):
        check_format(name, None)  # type: ignore[arg-type]


def test_predict_writes_parquet_by_the_ending_of_the_file(
    classifold: Callable[..., Any], run_dir: Path, save_plain: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("red", "green", "blue"):
        save_plain(tmp_path / "photos" / f"{name}.png", name)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    output = tmp_path / "answers.parquet"
    answer = classifold("predict", run_dir, tmp_path / "photos", "--output", output)
    assert answer.code == 1
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert [row["predicted_class"] for row in rows] == [None, "blue", "green", "red"]
    assert [Path(row["path"]).stem for row in rows] == ["bad", "blue", "green", "red"]
    assert rows[0]["error"]
