"""The page of a comparison in a real browser: for screen readers, in light and dark, on a phone."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from classifold.comparison.compare import compare_runs
from classifold.comparison.page import render_page
from classifold.errors import DataError
from made_browser import NEEDS_BROWSER

pytestmark = NEEDS_BROWSER
HOSTILE = ("<script>alert(1)</script>", "x" * 200, "a\u202eb | `c`")


@pytest.fixture
def page(write_run: Callable[..., Path], answer: Callable[..., Any], tmp_path: Path) -> Path:
    """The page of three runs, two of which have classes and settings with names that want to break it."""
    rows = [answer(wrong, class_names=HOSTILE) for wrong in (range(9), [0], range(4, 8))]
    runs = [
        write_run(f"run {place} {'long ' * 20}", one, class_names=HOSTILE, BACKBONE="<b>" * place)
        for place, one in enumerate(rows)
    ]
    return compare_runs(runs, runs_dir=tmp_path).write_page(tmp_path / "page.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_loaded(page: Path, browser: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    opened, asked, said = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.goto(page.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert said == []
    opened.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    opened.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = opened.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]] == []
    context.close()


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_never_scrolls_sideways(page: Path, browser: Any, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("svg.chart circle").count() == 3
    context.close()


def test_names_are_text_and_nothing_else(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "\u202e" not in text


def test_two_runs_have_their_result_as_the_headline(two_runs: tuple[Path, Path]) -> None:
    text = render_page(compare_runs(two_runs, runs_dir=Path()))
    assert "<h1>B is better on 7 and worse on 3 of 24 pictures</h1>" in text


def test_a_page_does_not_replace_a_file_of_a_run(two_runs: tuple[Path, Path]) -> None:
    found = compare_runs(two_runs, runs_dir=Path("runs"))
    with pytest.raises(DataError, match="this file belongs to the run in first"):
        found.write_page(two_runs[0] / "metrics.json")
    assert (two_runs[0] / "metrics.json").read_text().startswith("{")
    found.write_page(two_runs[0] / "comparison.html")
    found.write_page(two_runs[0] / "comparison.html")
