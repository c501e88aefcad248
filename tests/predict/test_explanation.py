from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.predict import explanation_files
from classifold.predict.explanation import tell_time
from classifold.predict.training_pictures import find_training_pictures
from made_browser import NEEDS_BROWSER, opening_pages
from made_spots import list_spots, make_spot_run, paint_spot, write_spots


def needs_browser(test: Callable[..., None]) -> Callable[..., None]:
    for mark in NEEDS_BROWSER:
        test = mark(test)
    return test


HOSTILE = "<script>alert(1)</script>\u202e & co.png"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_spot_run(tmp_path_factory.mktemp("spots") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red spot with a hostile name, a wide blue one, a plain grey picture, and a damaged file."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(paint_spot("red")).save(folder / HOSTILE.replace("/", "_"))
    Image.fromarray(paint_spot("blue")).resize((400, 200), Image.Resampling.NEAREST).save(folder / "b.png")
    Image.new("RGB", (40, 40), (127, 127, 127)).save(folder / "grey.png")
    (folder / "torn.png").write_bytes((folder / "b.png").read_bytes()[:200])
    return folder


@pytest.fixture
def explained(
    classifold: Callable[..., Any], run_dir: Path, photos: Path, tmp_path: Path
) -> Callable[..., tuple[Any, Path, dict[str, Any]]]:
    """Return a function that explains the photos, and returns the answer, the folder and its JSON."""

    def explain(*options: object, target: Path | None = None) -> tuple[Any, Path, dict[str, Any]]:
        folder = target or tmp_path / "why"
        answer = classifold("predict", run_dir, photos, "--explain", folder, *options)
        text = (folder / "explain.json").read_text(encoding="utf-8") if folder.is_dir() else "{}"
        return answer, folder, json.loads(text)

    return explain


def test_every_picture_is_explained_with_a_line_for_one_that_cannot_be_read(
    explained: Callable[..., Any],
) -> None:
    answer, folder, found = explained("--format", "csv")
    assert answer.code == 1  # a picture could not be read
    assert len(answer.out.splitlines()) == 5
    by_name = {Path(row["path"]).name: row for row in found["pictures"]}
    blue, grey, torn = by_name["b.png"], by_name["grey.png"], by_name["torn.png"]
    assert (blue["predicted_class"], blue["heat_map"]["is_shown"]) == ("blue", True)
    assert blue["heat_map"]["insertion"] > blue["heat_map"]["random_insertion"]
    assert blue["neighbours"][0]["key"] == "blue/1.png"
    assert not grey["heat_map"]["is_shown"]
    assert torn["error"]
    assert torn["file"] is None
    with Image.open(folder / blue["file"]) as overlay:
        assert overlay.size == (400, 200)
        light = np.asarray(overlay.convert("L"), np.float32)
    assert light[125, 300] > 2 * light[30, 50]  # the spot, and a corner
    with Image.open(folder / grey["file"]) as plain:
        assert plain.getpixel((100, 100)) == (127, 127, 127)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "2 of 3 pictures have a heat map; 1 more could not be read." in page
    assert "<script>" not in page
    assert "\u202e" not in page
    assert "the training pictures were not found" in answer.err
    assert str(folder / "index.html") in answer.err


def test_neighbours_are_shown_where_the_training_pictures_are(
    explained: Callable[..., Any], tmp_path: Path
) -> None:
    answer, folder, found = explained("--data", write_spots(tmp_path / "sets" / "training"))
    assert "note:" not in answer.err
    files_of = {one["key"]: one["file"] for row in found["pictures"] for one in row["neighbours"]}
    assert all((folder / name).is_file() for name in files_of.values())
    assert len(list((folder / "neighbours").iterdir())) == len(files_of) == 6


def test_an_earlier_explanation_is_replaced_and_nothing_else_is_left(explained: Callable[..., Any]) -> None:
    _, folder, first = explained()
    (folder / "pictures" / "000001.jpg").write_bytes(b"")
    _, _, second = explained()
    assert first == second
    assert (folder / "pictures" / "000001.jpg").stat().st_size
    assert [path.name for path in folder.parent.iterdir()] == ["why"]


def test_an_unknown_picture_says_why(explained: Callable[..., Any]) -> None:
    answer, folder, found = explained("--threshold", "40%")
    reasons = [(row["unknown"], row["reason"]) for row in found["pictures"]]
    assert set(reasons) == {(True, "confidence"), (False, None), (None, None)}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("Unsure: below the minimum confidence, 40 %.") == reasons.count((True, "confidence"))
    assert "classifying" not in answer.err


def test_a_long_name_of_a_neighbour_is_whole_in_its_title(explained: Callable[..., Any]) -> None:
    _, folder, _ = explained()
    assert '<span class="file" title="blue/1.png">' in (folder / "index.html").read_text(encoding="utf-8")


def test_the_same_pictures_give_the_same_files(explained: Callable[..., Any], tmp_path: Path) -> None:
    _, one, _ = explained(target=tmp_path / "one")
    _, two, _ = explained(target=tmp_path / "two")
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_a_folder_that_cannot_be_made_is_said_before_any_picture_is_read(
    explained: Callable[..., Any], tmp_path: Path
) -> None:
    answer, folder, _ = explained(target=tmp_path / "no" / "why")
    assert answer.code == 1
    assert answer.out == ""
    assert "no such folder" in answer.err
    assert not folder.exists()


def test_many_pictures_are_spread_over_pages(
    explained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanation_files, "PER_PAGE", 2)
    _, folder, _ = explained()
    pages = [(folder / name).read_text(encoding="utf-8") for name in ("index.html", "page-2.html")]
    assert [page.count("<article") for page in pages] == [2, 2]
    assert 'id="picture-3"' in pages[1]
    assert '<a href="page-2.html" aria-current="page">2</a>' in pages[1]
    assert not list(folder.glob("*.part"))


def test_data_is_only_for_explain(classifold: Callable[..., Any], run_dir: Path, photos: Path) -> None:
    answer = classifold("predict", run_dir, photos, "--data", photos)
    assert answer.code == 2
    assert "it is only for --explain" in answer.err


@pytest.mark.parametrize(
    ("total", "seconds", "expected"),
    [
        (10, 1.0, []),
        (1000, 1.5, ["explaining 1,000 pictures takes about 25 minutes"]),
        (20_000, 1.0, ["explaining 20,000 pictures takes about 6 hours"]),
    ],
)
def test_a_long_time_is_told(total: int, seconds: float, expected: list[str]) -> None:
    told: list[str] = []
    tell_time(total, seconds, tell=told.append)
    assert told == expected


def test_the_folder_that_a_run_names_is_used_only_if_it_holds_the_sets_of_the_run(tmp_path: Path) -> None:
    for name in ("training", "validation", "evaluation"):
        write_spots(tmp_path / "sets" / name)
    keys = [key for key, _ in list_spots()]
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    assert find_training_pictures(run_dir, keys) == {}
    data = {"dir": str(tmp_path / "sets"), "fingerprint": "of other pictures"}
    (run_dir / "environment.json").write_text(json.dumps({"data": data}))
    assert find_training_pictures(run_dir, keys) == {}
    from classifold.dataset.scan import load_sets

    data["fingerprint"] = load_sets(tmp_path / "sets").fingerprint
    (run_dir / "environment.json").write_text(json.dumps({"data": data}))
    assert sorted(find_training_pictures(run_dir, keys)) == sorted(keys)


def test_a_key_that_leads_out_of_the_folder_is_ignored(tmp_path: Path) -> None:
    write_spots(tmp_path / "training")
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "training" / "red" / "linked.png").symlink_to(tmp_path / "secret.png")
    keys = ["../secret.png", str(tmp_path / "secret.png"), "red/0.png", "red/\0", "red/linked.png"]
    assert list(find_training_pictures(tmp_path, keys, data_dir=tmp_path / "training")) == ["red/0.png"]


@pytest.fixture
def page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page, and fails the test on a message or a request elsewhere."""
    with opening_pages(browser, schemes=("data:",), in_folder=True) as open_page:
        yield open_page


@needs_browser
def test_the_page_shows_its_pictures_fits_a_phone_and_axe_finds_nothing(
    explained: Callable[..., Any], page: Callable[..., Any], tmp_path: Path
) -> None:
    _, folder, _ = explained("--data", write_spots(tmp_path / "training"))
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    for scheme, width in (("light", 1280), ("dark", 360)):
        shown = page(folder / "index.html", width=width, color_scheme=scheme, bypass_csp=True)
        shown.evaluate("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
        shown.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth)")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        shown.evaluate(script)
        found = shown.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [one["id"] for one in found["violations"]] == []


@needs_browser
def test_the_pictures_are_allowed_by_the_pages_own_policy_wherever_the_folder_is(
    explained: Callable[..., Any], page: Callable[..., Any], tmp_path: Path
) -> None:
    _, folder, _ = explained()
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    shown = page(moved / "index.html")
    assert shown.evaluate("document.images[0].decode().then(() => document.images[0].naturalWidth)") > 0
