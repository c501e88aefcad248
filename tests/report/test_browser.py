"""The page in a real browser: nothing is asked of the network, everything is drawn, a phone can show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from classifold.report.page import write_report
from made_browser import NEEDS_BROWSER

pytestmark = NEEDS_BROWSER


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a report and fails the test on any message of the browser's console."""
    contexts = []
    complaints: list[str] = []

    def open_page(report: Path, *, width: int = 1280, **options: Any) -> tuple[Any, list[str]]:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(report.as_uri())
        return page, asked

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def test_nothing_is_asked_of_the_network(make_run: Callable[..., Any], show: Callable[..., Any]) -> None:
    report = write_report(make_run().run_dir)
    _, asked = show(report)
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_every_picture_and_drawing_is_there(make_run: Callable[..., Any], show: Callable[..., Any]) -> None:
    made = make_run()
    page, _ = show(write_report(made.run_dir))
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == (made.true != made.predicted).sum() + 8
    assert min(widths) > 100
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg.chart')].map(e => e.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(sizes) == 3
    assert min(side for size in sizes for side in size) > 150
    # A curve is painted in its colour: style sheet and drawing agree on their class names.
    stroke = page.evaluate("getComputedStyle(document.querySelector('.curve.validation')).stroke")
    assert stroke == "rgb(29, 88, 166)"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("classes", ["flowers", "many", "long"])
def test_the_page_never_scrolls_sideways(
    make_run: Callable[..., Any], show: Callable[..., Any], width: int, classes: str
) -> None:
    names = {
        "flowers": ("daisy", "dandelion", "roses", "sunflowers", "tulips"),
        "many": [f"a kind of thing, number {i}" for i in range(60)],
        "long": ["Donaudampfschifffahrtsgesellschaftskapitän" * 2, "x" * 120],
    }[classes]
    page, _ = show(write_report(make_run(names, per_class=3, skill=1, pictures=False).run_dir), width=width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_is_dark_and_print_is_light(make_run: Callable[..., Any], show: Callable[..., Any]) -> None:
    page, _ = show(write_report(make_run(pictures=False).run_dir), color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(18, 20, 23)"
    page.emulate_media(media="print")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_the_keyboard_reaches_the_content_and_every_wide_table(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    page, _ = show(write_report(make_run(pictures=False).run_dir))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#content"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("[...document.querySelectorAll('.scroll')].indexOf(document.activeElement)")
        )
    hidden = "[...document.querySelectorAll('details .scroll')].length"
    wide = page.evaluate("document.querySelectorAll('.scroll').length") - page.evaluate(hidden)
    assert len(reached - {-1}) == wide


def test_a_phone_shows_what_the_scores_mean_and_every_interval(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    page, _ = show(write_report(make_run(pictures=False).run_dir), width=400)
    for cells in ("td.meaning", "td.interval"):
        shown = page.locator(cells)
        assert shown.count() > 0
        assert all(shown.nth(place).is_visible() for place in range(shown.count()))
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
