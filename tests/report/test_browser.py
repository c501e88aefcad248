"""The page in a real browser: nothing is asked of the network, everything is drawn, a phone can show it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from classifold.report.page import write_report
from made_browser import NEEDS_BROWSER, opening_pages

pytestmark = NEEDS_BROWSER


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a report and fails the test on any message, dialog or request.

    It returns the page and the addresses that were asked for.
    """
    with opening_pages(browser, schemes=("data:",)) as open_page:

        def show(report: Path, **options: Any) -> tuple[Any, list[str]]:
            asked: list[str] = []
            return open_page(report, asked=asked, **options), asked

        yield show


def test_nothing_is_asked_of_the_network(make_run: Callable[..., Any], show: Callable[..., Any]) -> None:
    report = write_report(make_run().run_dir)
    _, asked = show(report)
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_every_picture_and_drawing_is_there(make_run: Callable[..., Any], show: Callable[..., Any]) -> None:
    page, _ = show(write_report(make_run().run_dir))
    # Those of the matrix are read when their cell is chosen.
    widths = page.evaluate("[...document.images].filter(e => !e.closest('.cell')).map(e => e.naturalWidth)")
    assert len(widths) == 12
    assert min(widths) > 100
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg.chart')].map(e => e.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(sizes) == 10  # calibration twice, coverage, five classes, learning twice
    assert min(side for size in sizes for side in size) > 90
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


def test_on_a_phone_a_matrix_of_ten_classes_is_whole_and_a_larger_one_fades_out_where_it_is_cut(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    names = ["Dress", "Hat", "Longsleeve", "Outwear", "Pants", "Shirt", "Shoes", "Shorts", "Skirt", "T-Shirt"]
    cut = "document.querySelector('.scroll:has(.matrix)').classList.contains('cut')"
    page, _ = show(write_report(make_run(names, per_class=4, pictures=False).run_dir), width=390)

    assert page.evaluate(cut) is False
    many = [f"kind {place}" for place in range(20)]
    run_dir = make_run(many, per_class=2, pictures=False, name="many").run_dir
    page, _ = show(write_report(run_dir), width=390)
    # Not wait_for_function: its second try runs text as a script, which the page refuses.
    page.wait_for_selector(".scroll.cut:has(.matrix)")
    box = page.locator(".scroll:has(.matrix)")
    assert (box.get_attribute("tabindex"), box.get_attribute("role")) == ("0", "region")
    box.focus()
    box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
    page.wait_for_selector(".scroll:not(.cut):has(.matrix)")
    # The names of the rows stay in sight.
    assert box.locator("tbody th").first.bounding_box()["x"] >= 0


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
    for _ in range(100):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("[...document.querySelectorAll('.scroll')].indexOf(document.activeElement)")
        )
    wide = page.evaluate("[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility()).length")
    assert len(reached - {-1}) == wide


FOCUSED = "document.activeElement.id"


def test_a_cell_of_the_matrix_shows_its_pictures_by_keyboard_and_leads_back(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    made = make_run()
    page, _ = show(write_report(made.run_dir))
    shown = "[...document.querySelectorAll('.cell')].filter(e => e.checkVisibility()).map(e => e.id)"
    assert page.evaluate(shown) == []
    true, predicted = next((a, b) for a, b in zip(made.true, made.predicted, strict=True) if a != b)
    page.focus(f"#at-{true}-{predicted}")
    page.keyboard.press("Enter")
    assert page.evaluate(shown) == [f"cell-{true}-{predicted}"]
    assert page.evaluate(FOCUSED) == f"cell-{true}-{predicted}"
    assert page.locator(".cell:target img").first.evaluate("e => e.decode().then(() => e.naturalWidth)") > 50
    marked = page.locator("a[aria-current]")
    assert marked.count() == 2  # in the matrix and in words
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # "Back to the matrix"
    assert page.evaluate(FOCUSED) == f"at-{true}-{predicted}"
    assert page.evaluate(shown) == []


def test_a_click_on_the_large_matrix_shows_the_pictures_of_its_cell(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    names = [f"kind {place}" for place in range(31)]
    page, _ = show(write_report(make_run(names, per_class=2, skill=1, pictures=False).run_dir))
    cell = page.locator("[data-cell]").first
    cell.click()
    assert page.evaluate(FOCUSED) == f"cell-{cell.get_attribute('data-cell')}"
    assert page.locator(".cell:target h3").inner_text().count("is taken for") == 1


def test_the_slider_says_by_keyboard_what_a_threshold_costs(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    made = make_run(pictures=False)
    metrics = json.loads((made.run_dir / "metrics.json").read_text())
    page, _ = show(write_report(made.run_dir))
    slider, said = page.locator("#threshold"), page.locator("#threshold-said")
    curve = metrics["answers"]["curve"]
    slider.focus()
    for key, point in (("Home", curve[0]), ("ArrowRight", curve[1]), ("End", curve[-1])):
        page.keyboard.press(key)
        answered, right = point["num_answered"], point["num_right"]
        assert f"Answers {100 * answered / 75:.0f}\u00a0% of the pictures" in said.inner_text()
        assert f"({right} of {answered})" in said.inner_text()
        assert f"--threshold {point['min_confidence']:g}" in page.locator("#threshold-command").inner_text()
        assert "of the pictures" in str(slider.get_attribute("aria-valuetext"))
    # The mark is where the curve ends.
    last = page.evaluate(
        "document.querySelector('#coverage polyline').getAttribute('points').split(' ').at(-1)"
    )
    mark = page.locator("#coverage-chart-mark")
    assert [float(str(mark.get_attribute(one))) for one in ("cx", "cy")] == [*map(float, last.split(","))]


@pytest.mark.parametrize("num_right", [60, 66, 70])
def test_the_slider_starts_at_the_models_own_minimum_and_says_what_the_promise_says(
    make_run: Callable[..., Any], show: Callable[..., Any], num_right: int
) -> None:
    made = make_run(pictures=False)
    path = made.run_dir / "metrics.json"
    metrics = json.loads(path.read_text())
    curve = metrics["answers"]["curve"]
    # Between two points of the curve, of which the last is not to be shown as 100 %.
    metrics["answers"] |= {"min_confidence": curve[9]["min_confidence"] - 1e-5, "num_answered": 70}
    metrics["answers"]["num_right"] = num_right
    curve[-1]["min_confidence"] = 0.99961
    path.write_text(json.dumps(metrics))
    page, _ = show(write_report(made.run_dir))
    promise, said = page.locator(".promise li").first.inner_text(), page.locator("#threshold-said")
    pattern = r"Answers (all|[\d.]+).*; (all|[\d.]+)(?:.%)? of the answers are right \((\d+ of \d+)"
    found = [re.search(pattern, text) for text in (promise, said.inner_text())]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].groups() == found[1].groups()
    command = page.locator("#threshold-command").inner_text()
    assert f"--threshold {metrics['answers']['min_confidence']:g}" in command
    page.locator("#threshold").press("End")
    assert page.locator("#threshold-value").inner_text() == "99.9+\u00a0%"
    assert "100\u00a0%" not in page.locator("#coverage tbody th").all_inner_texts()


def test_a_header_sorts_the_classes_and_says_so(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    page, _ = show(write_report(make_run(pictures=False).run_dir))
    column = "[...document.querySelectorAll('table.classes tbody tr')].map(row => row.cells[0].textContent)"
    weakest_first = page.evaluate(column)
    page.get_by_role("button", name="F1").click()
    assert page.evaluate(column) != weakest_first
    page.get_by_role("button", name="Class").click()
    assert page.evaluate(column) == sorted(weakest_first)
    assert page.locator("th[aria-sort]").evaluate_all("all => all.map(e => e.ariaSort)") == ["ascending"]
    page.get_by_role("button", name="Class").click()
    assert page.evaluate(column) == sorted(weakest_first, reverse=True)


def test_without_scripts_cells_open_and_the_table_of_coverage_stands_for_the_slider(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    page, _ = show(write_report(make_run(pictures=False).run_dir), java_script_enabled=False)
    assert not page.locator("#slider").is_visible()
    assert page.locator("#coverage table").is_visible()
    link = page.locator(".pairs a").first
    link.click()
    assert page.locator(str(link.get_attribute("href"))).is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("kind", ["five", "many", "no mistake", "early"])
def test_axe_finds_nothing(
    make_run: Callable[..., Any], show: Callable[..., Any], kind: str, width: int, scheme: str
) -> None:
    made = {
        "five": lambda: make_run(),
        "many": lambda: make_run([f"kind {place}" for place in range(31)], per_class=2, pictures=False),
        "no mistake": lambda: make_run(skill=30, pictures=False),
        "early": lambda: make_run(pictures=False, is_early=True),
    }[kind]()
    page, _ = show(write_report(made.run_dir), width=width, color_scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    if kind != "no mistake":
        page.evaluate("location.hash = document.querySelector('.cell').id")
    # The page's own policy lets no other script in.
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []


def test_it_prints_on_paper_with_every_row_and_without_what_only_a_screen_can_do(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    page, _ = show(write_report(make_run([f"kind {place}" for place in range(25)], per_class=2).run_dir))
    page.emulate_media(media="print")
    assert not page.locator("#slider").is_visible()
    table = "document.querySelector('table.classes').parentElement"
    assert page.evaluate(f"{table}.scrollHeight <= {table}.clientHeight + 1")  # nothing is cut off
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 4 < pdf.count(b"/Type /Page\n") < 20


def test_a_phone_shows_what_the_scores_mean_and_every_interval(
    make_run: Callable[..., Any], show: Callable[..., Any]
) -> None:
    page, _ = show(write_report(make_run(pictures=False).run_dir), width=400)
    for cells in ("td.meaning", "td.interval"):
        shown = page.locator(cells)
        assert shown.count() > 0
        assert all(shown.nth(place).is_visible() for place in range(shown.count()))
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
