"""metrics.json: its schema says what a run writes, and both of its formats can be read."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from classifold.metrics import Metrics
from classifold.report.page import write_report
from made_runs import Finished

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "metrics.schema.json").read_text(encoding="utf-8"))
SECOND = ("calibration", "answers", "unseen")


def strip_run(run_dir: Path) -> Path:
    """Make a run folder one of the first format: without what later releases write."""
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in metrics.items() if name not in SECOND}
    (run_dir / "metrics.json").write_text(json.dumps(kept | {"format": 1}), encoding="utf-8")
    card = json.loads((run_dir / "classes.json").read_text(encoding="utf-8"))
    (run_dir / "classes.json").write_text(json.dumps({k: v for k, v in card.items() if k != "answering"}))
    table = run_dir / "predictions.csv"
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = [name for name in rows[0] if name not in ("unknown", "distance")]
    with table.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for name in ("reference.npz", "MODEL_CARD.md"):
        (run_dir / name).unlink(missing_ok=True)
    return run_dir


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    return shutil.copytree(finished.run_dir, tmp_path / "tiny-2026-01-02-03-04-05")


def test_the_schema_is_one_that_a_validator_accepts_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    records = [SCHEMA, *SCHEMA["$defs"].values()]
    assert all(field.get("description") for record in records for field in record["properties"].values())
    assert set(SCHEMA["properties"]) == set(Metrics.model_fields)


@pytest.mark.slow
def test_what_a_run_writes_fits_the_schema_in_both_formats(copied: Path) -> None:
    for run_dir in (copied, strip_run(copied)):
        content = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
        jsonschema.validate(content, SCHEMA)
        assert set(content) <= set(SCHEMA["properties"])
        Metrics.model_validate(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("format", 3), ("num_pictures", 0), ("scores", []), ("class_names", []), ("top_k", "three")],
)
def test_what_the_schema_refuses_is_refused_by_the_reader_too(copied: Path, name: str, value: object) -> None:
    content = json.loads((copied / "metrics.json").read_text(encoding="utf-8")) | {name: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)
    with pytest.raises(ValidationError):
        Metrics.model_validate(content)


@pytest.mark.slow
def test_a_run_of_the_first_format_opens_in_report_predict_and_compare(
    copied: Path, finished: Finished, classifold: Callable[..., Any], sets_dir: Path, project: Path
) -> None:
    earlier = strip_run(copied)
    assert write_report(earlier).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "It always answers" in (earlier / "MODEL_CARD.md").read_text(encoding="utf-8")
    picture = next((sets_dir / "evaluation" / "blue").iterdir())
    answer = classifold("predict", earlier, picture, "--format", "json")
    assert (answer.code, json.loads(answer.out)[0]["predicted_class"]) == (0, "blue")
    answer = classifold("compare", finished.run_dir, earlier)
    assert answer.code == 0
    assert "no difference" in answer.out
