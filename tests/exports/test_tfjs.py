"""The page of an export to TensorFlow.js, in a real browser, from the disk."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_browser import NEEDS_BROWSER
from made_exports import Exports

pytestmark = [pytest.mark.slow, pytest.mark.browser, *NEEDS_BROWSER]
# dist/tf.min.js of the npm package @tensorflow/tfjs 4.22.0, which is no part of this repository.
LIBRARY = os.environ.get("TFJS_LIBRARY", "")


def test_the_files_hold_the_model_in_the_form_of_tensorflow_js(exports: Exports) -> None:
    folder = exports.folder / "tfjs"
    model = json.loads((folder / "model.json").read_text())
    assert model["format"] == "graph-model"
    (group,) = model["weightsManifest"]
    size = sum((folder / name).stat().st_size for name in group["paths"])
    kinds = {"float32": 4, "int32": 4, "bool": 1}
    assert size == sum(kinds[one["dtype"]] * int(np.prod(one["shape"])) for one in group["weights"])
    names = {node["name"] for node in model["modelTopology"]["node"]}
    assert {"pixels", "probabilities", "distance"} <= names
    assert {one["name"] for one in group["weights"]} <= names


def test_the_page_says_that_the_library_is_missing(exports: Exports, browser: Any) -> None:
    page = browser.new_page()
    page.goto((exports.folder / "tfjs" / "index.html").as_uri())
    page.wait_for_function("document.getElementById('status').textContent.includes('tf.min.js is missing')")
    assert page.locator("#file").is_disabled()
    page.close()


@pytest.mark.skipif(not LIBRARY, reason="TFJS_LIBRARY does not name tf.min.js of @tensorflow/tfjs")
def test_the_page_names_a_picture_as_predict_does_and_asks_for_nothing_elsewhere(
    exports: Exports, sets_dir: Path, tmp_path: Path, browser: Any
) -> None:
    from classifold.predict.predictor import load_predictor

    folder = shutil.copytree(exports.folder / "tfjs", tmp_path / "tfjs")
    shutil.copy(LIBRARY, folder / "tf.min.js")
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_function("document.getElementById('status').textContent === 'Ready.'", timeout=60_000)
    picture = next((sets_dir / "evaluation").rglob("*.png"))
    page.set_input_files("#file", str(picture))
    page.wait_for_selector("#classes td", timeout=60_000)
    predictor = load_predictor(exports.run_dir)
    expected = predictor.predict_given(picture)
    best = int(expected.probabilities.argmax())
    first = page.locator("#classes tr").first.locator("td").all_inner_texts()
    assert first[0] == predictor.class_names[best]
    assert abs(float(first[1].removesuffix(" %")) - 100 * expected.probabilities[best]) < 1
    said = page.inner_text("#status")
    assert ("Unknown" in said) == expected.unknown
    assert all(url.startswith((folder.as_uri(), "blob:")) for url in asked)
    page.close()
