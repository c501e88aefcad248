"""The preprocessing beside an export gives the pixels that the model was trained on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classifold.exports.snippets import (
    JAVASCRIPT,
    KOTLIN,
    PYTHON,
    SNIPPETS,
    SWIFT,
    fill_template,
    write_snippets,
)
from classifold.model_card import Answering, ModelCard
from classifold.pictures.decode import load_picture

SIZE = 24
CLASSES = ("daisy", 'with "quotes"', "</script>", "back\\slash", "$money", "日本 🌸", "line\nbreak")
NODE = shutil.which("node")


def build_card(class_names: tuple[str, ...] = CLASSES) -> ModelCard:
    return ModelCard(
        format=1,
        class_names=class_names,
        image_size=SIZE,
        max_pixels=10**6,
        answering=Answering(min_confidence=0.4, max_distance=1.0),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snippets")
    write_snippets(folder, build_card())
    return folder


def draw(width: int, height: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng([seed, width, height])
    smooth = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return (smooth + generator.integers(0, 56, (height, width, 3))).astype(np.uint8)


def call_python(folder: Path, source: str) -> dict[str, Any]:
    """Run the Python file, which knows nothing of classifold."""
    space: dict[str, Any] = {}
    exec(compile((folder / PYTHON).read_text(encoding="utf-8"), PYTHON, "exec"), space)
    return {"found": eval(source, space), **space}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_python_reads_a_turned_photo_as_training_does(orientation: int, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(draw(40, 30)).save(path, exif=exif, quality=95)
    given = call_python(folder, f"load_picture({str(path)!r})")["found"]
    expected = load_picture(path, size=SIZE, max_pixels=10**6)
    assert given.shape == (1, SIZE, SIZE, 3)
    assert given.dtype == np.float32
    # Decoders of JPEG differ by a little.
    assert np.abs(given[0] - expected).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "LA", "1"])
def test_python_reads_every_kind_of_png_as_training_does(mode: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    image = Image.fromarray(draw(40, 30)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)
    given = call_python(folder, f"load_picture({str(path)!r})")["found"]
    assert np.abs(given[0] - load_picture(path, size=SIZE, max_pixels=10**6)).max() <= 1


def test_python_names_the_class_or_says_that_it_is_unknown(folder: Path) -> None:
    space = call_python(folder, "CLASS_NAMES")
    assert tuple(space["found"]) == CLASSES
    sure = np.array([0, 0, 0, 0, 0, 0.9, 0.1])
    assert space["read_answer"](sure, 0.5) == "日本 🌸"
    assert space["read_answer"](sure, 1.1) is None
    assert space["read_answer"](sure / 3, 0.5) is None


def run_node(folder: Path, script: str, *arguments: str) -> Any:
    if NODE is None:
        pytest.skip("there is no Node.js")
    done = subprocess.run(
        [NODE, "-e", f"const own = require({str(folder / JAVASCRIPT)!r}); {script}", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("width", "height"), [(100, 70), (24, 24), (7, 5), (25, 300), (1, 1), (640, 11)])
def test_javascript_resizes_as_training_does(width: int, height: int, folder: Path, tmp_path: Path) -> None:
    pixels = draw(width, height)
    rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    rgba.tofile(tmp_path / "pixels")
    script = (
        "const data = require('fs').readFileSync(process.argv[1]);"
        f"console.log(JSON.stringify(Array.from(own.classifoldResize(data, {width}, {height}))));"
    )
    given = np.array(run_node(folder, script, str(tmp_path / "pixels"))).reshape(SIZE, SIZE, 3)
    picture = tmp_path / "picture.png"
    Image.fromarray(pixels).save(picture)
    expected = load_picture(picture, size=SIZE, max_pixels=10**6)
    # Pillow begins with the rows or with the columns, whichever is faster, and rounds in between.
    assert np.abs(given - expected).max() <= 1


def test_javascript_names_the_class_or_says_that_it_is_unknown(folder: Path) -> None:
    script = (
        "const sure = [0, 0, 0, 0, 0, 0.9, 0.1];"
        "console.log(JSON.stringify([own.CLASSIFOLD_CLASSES, own.classifoldAnswer(sure, 0.5),"
        "own.classifoldAnswer(sure, 1.1), own.classifoldAnswer(sure.map((one) => one / 3), 0.5)]));"
    )
    assert run_node(folder, script) == [list(CLASSES), "日本 🌸", None, None]


def test_a_class_name_cannot_end_the_script_of_a_page() -> None:
    for name in (JAVASCRIPT, "index.html"):
        assert '</script>"' not in fill_template(name, build_card())


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_class_name_becomes_one_string_of_each_language(name: str) -> None:
    card = build_card((name,))
    space: dict[str, Any] = {}
    exec(compile(fill_template(PYTHON, card), PYTHON, "exec"), space)
    assert space["CLASS_NAMES"] == [name]
    for file in (SWIFT, KOTLIN):
        text = fill_template(file, card)
        (line,) = [one for one in text.split("\n") if '"' in one and re.match(r" *(val|static let) ", one)]
        text = line[line.index('"') + 1 : line.rindex('"')]
        # Nothing but letters, digits and escapes, of which neither language makes anything else.
        assert all(one.isascii() for one in text)
        assert not {'"', "$"} & set(text)


def test_nothing_is_left_unfilled_and_what_was_not_run_says_so(folder: Path) -> None:
    for name in SNIPPETS:
        text = (folder / name).read_text(encoding="utf-8")
        assert "@" not in text.replace("@tensorflow", "")
        assert ("NOT RUN" in text) == (name in (SWIFT, KOTLIN))


def test_the_page_says_what_is_missing_where_the_library_is_not_there(folder: Path) -> None:
    assert "tf.min.js is missing" in fill_template("index.html", build_card())
