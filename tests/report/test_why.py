from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from classifold.report.page import write_report
from made_spots import CLASSES, list_spots, make_spot_run, paint_spot, spot_model, write_spots

Make = Callable[..., Any]
KEY = "red/strange.png"


def make_explained(make_run: Make, tmp_path: Path, **shape: bool) -> Path:
    """A run whose model calls one picture, of class red, green: it has a green spot."""
    made = make_run(CLASSES, per_class=2, skill=30, pictures=False, name="spots")
    made_model = make_spot_run(tmp_path / "spots", **shape)
    for path in made_model.iterdir():
        path.rename(made.run_dir / path.name)
    text = spot_model(class_maps=shape.get("class_maps", True), embedding=shape.get("with_reference", True))[
        1
    ]
    (made.run_dir / "classes.json").write_text(text.to_json(), encoding="utf-8")
    write_spots(made.data_dir / "training")
    strange = made.data_dir / "evaluation" / KEY
    strange.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paint_spot("green")).resize((96, 64)).save(strange)
    path = made.run_dir / "predictions.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    wrong = {
        "path": KEY,
        "true_class": "red",
        "predicted_class": "green",
        "confidence": "0.6",
        "correct": "false",
    }
    wrong |= {"p:red": "0.2", "p:green": "0.6", "p:blue": "0.2"}
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows([wrong, *rows[1:]])
    metrics = json.loads((made.run_dir / "metrics.json").read_text())
    metrics["confusion_matrix"][0] = [1, 1, 0]
    (made.run_dir / "metrics.json").write_text(json.dumps(metrics))
    return made.run_dir


def test_a_mistake_has_its_heat_map_and_the_training_pictures_that_it_looks_like(
    make_run: Make, tmp_path: Path
) -> None:
    html = write_report(make_explained(make_run, tmp_path)).read_text(encoding="utf-8")
    card = re.search(r'<ul class="cards">(.*?)<section', html, re.DOTALL)[1]  # type: ignore[index]
    assert card.count('class="large"') == card.count('class="heat"') == 1
    assert "Heat map: better than each of 19 random ones." in card
    assert re.findall(r'class="near" title="([^"]+)"', card)[:2] == [f"green/{n}.png" for n in (1, 0)]
    assert card.count('class="neighbour"') == len(list_spots()[:4])
    # The class that was named stands out among those of the neighbours.
    assert '<strong class="said">green</strong>' in card


def add_mistake(run_dir: Path, key: str) -> None:
    """Add a mistake like the first one, of which the model is less sure."""
    path = run_dir / "predictions.csv"
    head, first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, first, first.replace(KEY, key).replace("0.6", "0.55"), *rest]) + "\n")
    pictures = run_dir.parents[1] / "flowers-split" / "evaluation"
    shutil.copy(pictures / KEY, pictures / key)


@pytest.mark.parametrize(
    ("limit", "notes"),
    [
        ({"_MOST_MAPS": 1}, ["Heat map: better", "No heat map: only the first 1 picture that can be read"]),
        ({"_MOST_SECONDS": 0.0}, ["No heat map: making one takes longer than the time limit"] * 2),
    ],
)
def test_a_mistake_without_a_heat_map_says_why(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any], notes: list[str]
) -> None:
    run_dir = make_explained(make_run, tmp_path)
    add_mistake(run_dir, "red/second.png")
    for name, value in limit.items():
        monkeypatch.setattr(f"classifold.report.why.{name}", value)
    html = write_report(run_dir).read_text(encoding="utf-8")
    found = re.findall(r'<p class="why">([^<]+)</p>', html)
    assert len(found) == 2
    assert all(one.startswith(note) for one, note in zip(found, notes, strict=True)), found
    assert "Nearest training pictures" in html


def test_without_a_reference_set_there_is_the_heat_map_alone(make_run: Make, tmp_path: Path) -> None:
    run_dir = make_explained(make_run, tmp_path, class_maps=False, with_reference=False)
    html = write_report(run_dir).read_text(encoding="utf-8")
    assert 'class="heat"' in html
    assert "Nearest training pictures" not in html


@pytest.mark.parametrize("damage", ["model.onnx", "reference.npz"])
def test_a_damaged_model_or_reference_set_does_not_keep_the_report_from_being_written(
    make_run: Make, tmp_path: Path, damage: str
) -> None:
    run_dir = make_explained(make_run, tmp_path)
    (run_dir / damage).write_bytes(b"damaged")
    html = write_report(run_dir).read_text(encoding="utf-8")
    assert "named wrongly" in html
    assert ('class="heat"' in html) == (damage == "reference.npz")
    assert "Nearest training pictures" not in html
    assert ("No heat map: the model could not be opened or run." in html) == (damage == "model.onnx")


def test_pictures_that_are_not_there_are_not_explained(make_run: Make, tmp_path: Path) -> None:
    run_dir = make_explained(make_run, tmp_path)
    (tmp_path / "flowers-split" / "evaluation" / KEY).unlink()
    assert 'class="heat"' not in write_report(run_dir).read_text(encoding="utf-8")


def test_a_heat_map_lies_on_the_picture_as_sample_bits_reads_it(make_run: Make, tmp_path: Path) -> None:
    """Twelve bits in samples of 16 are nearly black where all 16 are taken to count."""
    run_dir = make_explained(make_run, tmp_path)
    plain = _read_heat(write_report(run_dir).read_text(encoding="utf-8"))
    strange = run_dir.parents[1] / "flowers-split" / "evaluation" / KEY
    with Image.open(strange) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.uint16) * 16
    cv2.imwrite(str(strange), pixels[:, :, ::-1])
    config = run_dir / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "SAMPLE_BITS": 12}), encoding="utf-8")
    deep = _read_heat(write_report(run_dir).read_text(encoding="utf-8"))
    assert np.abs(deep - plain).mean() < 3


def _read_heat(html: str) -> Any:
    """Return the pixels of the page's first heat map."""
    tag = re.search(r'<img[^>]*class="heat"[^>]*>', html)[0]  # type: ignore[index]
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', tag)[1]  # type: ignore[index]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB")).astype(float)
