from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some
from markdown_it import MarkdownIt
from PIL import Image

from classifold.metrics import Answers, Calibration, Metrics, Score, Unseen
from classifold.model_card import parse_card
from classifold.report.card import build_model_card, escape_markdown, write_model_card
from classifold.report.page import write_report
from classifold.report.records import read_records
from made_card import model_card
from made_models import COLOURS, colour_model, save_judging_model

MARKDOWN = MarkdownIt("commonmark").enable("table")


def texts_of(markdown: str) -> list[str]:
    """Return the text of every paragraph, heading and cell, as a reader sees it."""
    found = []
    for token in MARKDOWN.parse(markdown):
        if token.type == "inline":
            children = token.children or []
            assert {child.type for child in children} <= {"text", "code_inline", "softbreak", "text_special"}
            found.append("".join(child.content or " " for child in children))
    return found


@pytest.fixture
def card(make_run: Callable[..., Any]) -> str:
    return build_model_card(read_records(make_run(pictures=False, is_early=True).run_dir))


def test_the_head_is_yaml_that_claims_no_licence(card: str) -> None:
    _, head, body = card.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["pipeline_tag"] == "image-classification"
    assert "license" not in fields
    assert body.startswith("\n# flowers-2026-03-14-09-26-53\n")


def test_the_card_says_what_a_user_must_know(card: str) -> None:
    headings = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert headings == [
        "What it is",
        "How good it is",
        "When it does not answer",
        "Data",
        "Limits",
        "How to use it",
        "Licences",
        "How it was made",
    ]
    assert "It tells 5 classes apart: daisy, dandelion, roses, sunflowers, tulips." in card
    assert "Pictures: 375 for training, 75 for validation, 75 for evaluation." in card
    assert "| roses | 75 | 15 | 15 | " in card
    assert "The training pictures: not known to Classifold." in card
    assert "It always answers" in card


def test_the_card_names_no_path_of_the_machine(make_run: Callable[..., Any], tmp_path: Path) -> None:
    made = make_run(pictures=False)
    environment = json.loads((made.run_dir / "environment.json").read_text())
    environment["backbone"] = {"name": f"{tmp_path}/my_model.py:build", "weights": str(tmp_path / "w.h5")}
    (made.run_dir / "environment.json").write_text(json.dumps(environment))
    text = build_model_card(read_records(made.run_dir))
    assert str(tmp_path) not in text.replace("\\", "")
    assert "my\\_model.py:build" in text


def test_calibration_and_refusals_are_told_where_they_were_measured(make_run: Callable[..., Any]) -> None:
    records = read_records(make_run(pictures=False).run_dir)
    score = Score(value=0.875, low=0.8, high=0.9)
    more = {
        "calibration": Calibration(
            method="temperature", temperature=0.75, num_pictures=75, calibration_error=score, log_loss=score
        ),
        "answers": Answers(
            min_confidence=0.5, max_distance=1, num_answered=70, num_right=66, coverage=score, accuracy=score
        ),
        "unseen": Unseen(false_refusals=0.05, auroc=score, refused=score, is_weak=True),
    }
    metrics = Metrics.model_validate({**records.metrics.model_dump(), "format": 2, **more})
    text = build_model_card(dataclasses.replace(records, metrics=metrics))
    assert "calibrated with the temperature 0.750, fitted on 75 validation pictures" in text
    assert "It always answers" not in text
    assert "unknown" in text
    assert "estimate" in text


def test_a_recipe_is_named_with_what_it_set(make_run: Callable[..., Any]) -> None:
    made = make_run(pictures=False)
    path = made.run_dir / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"RECIPE": "quick", "EPOCHS": 0}))
    text = build_model_card(read_records(made.run_dir))
    assert '`RECIPE` = `"quick"`, ' in text
    assert "`EPOCHS` = `0` (by RECIPE)" in text
    path.write_text(json.dumps(settings | {"RECIPE": "balanced", "EPOCHS": 0}))
    text = build_model_card(read_records(made.run_dir))
    assert "RECIPE" not in text
    assert "`EPOCHS` = `0`" in text


@pytest.mark.parametrize("measures", [True, False])
def test_the_lines_for_onnx_runtime_alone_name_a_picture_or_say_unknown(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, measures: bool
) -> None:
    run_dir = make_run(list(COLOURS), pictures=False).run_dir
    if measures:
        save_judging_model(run_dir / "model.onnx")
    else:
        onnx.save(colour_model(model_card(COLOURS)), run_dir / "model.onnx")
    model = onnx.load(run_dir / "model.onnx")
    # With every field, as a run writes it.
    whole = parse_card(model.metadata_props[0].value, where=run_dir).to_json()
    model.metadata_props[0].value = whole
    onnx.save(model, run_dir / "model.onnx")
    (run_dir / "classes.json").write_text(whole)
    text = build_model_card(read_records(run_dir))
    assert ("`distance`" in text) == measures
    lines = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1].replace("RUN/", "")
    monkeypatch.chdir(run_dir)
    white = "unknown" if measures else "red"  # it is at the distance 4
    for colour, said in (((255, 0, 0), "red"), ((0, 255, 0), "green"), ((255, 255, 255), white)):
        Image.new("RGB", (40, 30), colour).save("photo.jpg", quality=100, subsampling=0)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(lines, {})
        assert out.getvalue().split()[0] == said


def test_a_thousand_classes_make_a_table_of_two_hundred(make_run: Callable[..., Any]) -> None:
    names = [f"class {place:04}" for place in range(1000)]
    text = build_model_card(read_records(make_run(names, per_class=1, pictures=False).run_dir))
    assert text.count("| class ") == 1 + 200
    assert "The 800 classes with better scores are in `metrics.json`." in text
    assert len(text) < 60_000


@given(some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_name_is_shown_as_it_is_in_a_line_and_in_a_table(name: str) -> None:
    shown = escape_markdown(name)
    table = f"| a | b |\n| --- | --- |\n| x | (x{shown}x) |\n"
    expected = "".join(f"(x{show(name)}x)".split())
    for found in (texts_of(f"Named (x{shown}x)\n")[0], texts_of(table)[-1]):
        assert "".join(found.split()).removeprefix("Named") == expected


def show(name: str) -> str:
    """Return a name as a reader sees it: what cannot be printed is an escape."""
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else repr(char)[1:-1]
        for char in name
    )


def test_the_card_is_written_with_the_report_and_again_with_it(make_run: Callable[..., Any]) -> None:
    run_dir = make_run(pictures=False).run_dir
    write_report(run_dir)
    path = run_dir / "MODEL_CARD.md"
    first = path.read_bytes()
    path.unlink()
    assert write_model_card(read_records(run_dir)).read_bytes() == first
