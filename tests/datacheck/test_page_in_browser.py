"""check.html in a real browser: keys, choices, the saved plan, accessibility, and 100,000 findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from classifold.datacheck.page import write_check_page
from classifold.datacheck.plan import build_plan, read_plan
from classifold.findings import Findings, PictureFinding
from made_browser import NEEDS_BROWSER, opening_pages
from made_findings import make_findings, make_hostile

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    """Write the page of an own split once; no test changes it."""
    folder = tmp_path_factory.mktemp("checked")
    findings, paths = make_findings(folder / "own")
    write_check_page(folder / "check.html", findings, paths=paths, max_pixels=10**8)
    return folder / "check.html", findings


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page and fails the test on any message, dialog or request."""
    with opening_pages(browser, schemes=("data:", "blob:")) as open_page:
        yield open_page


def save(page: Any, target: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(target)
    return target


def current(page: Any) -> str:
    return page.evaluate("document.querySelector('article.current')?.dataset.place ?? ''")


def wait_for_cases(page: Any, count: int) -> None:
    """Wait until so many findings are shown; the page's policy forbids waiting by a script of our own."""
    from playwright.sync_api import expect

    expect(page.locator("article.case")).to_have_count(count)


def test_the_saved_plan_is_the_one_that_check_writes(
    made: tuple[Path, Findings], show: Callable[..., Any], tmp_path: Path
) -> None:
    page = show(made[0])
    steps = read_plan(save(page, tmp_path / "plan.csv"))
    wanted = build_plan(made[1])
    assert [(s.file, s.action, s.to, s.reason, s.certainty) for s in steps] == [
        (s.file, s.action, s.to, s.reason, s.certainty) for s in wanted
    ]
    assert f"check {made[1].source} --apply plan.csv" in page.inner_text("#status")


def test_hostile_names_run_nothing_and_come_back_in_the_plan(
    show: Callable[..., Any], tmp_path: Path
) -> None:
    findings = make_hostile(str(tmp_path))
    write_check_page(tmp_path / "check.html", findings, max_pixels=10**8)
    page = show(tmp_path / "check.html")
    page.keyboard.press("j")
    page.wait_for_timeout(100)
    steps = read_plan(save(page, tmp_path / "plan.csv"))
    assert [(s.file, s.to, s.reason) for s in steps] == [
        (s.file, s.to, s.reason) for s in build_plan(findings)
    ]
    assert page.evaluate("document.querySelectorAll('svg[onload], img[onerror]').length") == 0
    assert "\u202e" not in page.inner_text("body")


def test_keys_and_buttons_go_through_the_findings_and_decide(
    made: tuple[Path, Findings], show: Callable[..., Any], tmp_path: Path
) -> None:
    page = show(made[0])
    assert current(page) == ""
    page.keyboard.press("j")
    assert current(page) == "0"
    assert page.evaluate("document.activeElement.dataset.place") == "0"
    page.keyboard.press("x")  # the plan quarantines the evaluation picture; x keeps it
    assert page.inner_text("#status") == "evaluation/daisy/7.jpg: keep"
    page.click("[data-command=j]")
    page.keyboard.press("j")
    page.keyboard.press("x")  # of a wrong label, the change is the move to the suggested class
    assert page.inner_text("#status") == "training/daisy/4.jpg: move to rose"
    page.keyboard.press("x")
    assert page.inner_text("#status") == "training/daisy/4.jpg: keep"
    page.keyboard.press("k")
    assert current(page) == "1"
    page.click("[data-command=k]")
    page.click("[data-command=x]")
    assert page.inner_text("#status") == "evaluation/daisy/7.jpg: quarantine"
    page.click("article[data-place='5'] button[data-action=move]")
    page.keyboard.type("daisy jx")  # typed into the field, no commands
    page.keyboard.press("Backspace")
    for _ in range(2):
        page.keyboard.press("Backspace")
    steps = {step.file: step for step in read_plan(save(page, tmp_path / "plan.csv"))}
    assert (steps["training/rose/4.jpg"].action, steps["training/rose/4.jpg"].to) == ("move", "daisy")
    page.uncheck("#use-keys")
    before = current(page)
    page.keyboard.press("j")
    assert current(page) == before


def test_choices_are_kept_in_the_browser_until_they_are_forgotten(
    made: tuple[Path, Findings], show: Callable[..., Any], tmp_path: Path
) -> None:
    page = show(made[0])
    page.click("article[data-place='5'] button[data-action=quarantine]")
    page.wait_for_timeout(400)
    page.reload()
    steps = {step.file: step for step in read_plan(save(page, tmp_path / "plan.csv"))}
    assert steps["training/rose/4.jpg"].action == "quarantine"
    page.click("#forget")
    page.reload()
    steps = {step.file: step for step in read_plan(save(page, tmp_path / "plan.csv"))}
    assert steps["training/rose/4.jpg"].action == "keep"


def test_a_move_without_a_class_is_not_saved(made: tuple[Path, Findings], show: Callable[..., Any]) -> None:
    page = show(made[0])
    page.click("article[data-place='5'] button[data-action=move]")
    page.click("#save")
    assert page.inner_text("#status") == "Name the new class of training/rose/4.jpg first."


def test_filters_show_what_they_say(made: tuple[Path, Findings], show: Callable[..., Any]) -> None:
    page = show(made[0])
    places = page.locator("article.case")
    assert places.count() == 6
    page.select_option("#filter-kind", "label")
    assert places.count() == 2
    page.select_option("#filter-plan", "move")
    assert places.count() == 1
    page.click("a[data-kind=leak]")
    assert page.inner_text("#status") == "1 of 6 findings"
    page.select_option("#filter-kind", "")
    page.fill("#filter-text", "ROSE/4")
    wait_for_cases(page, 1)
    page.fill("#filter-text", "")
    wait_for_cases(page, 6)
    page.select_option("#filter-class", "rose")
    assert places.count() == 2
    page.select_option("#filter-set", "evaluation")
    assert page.inner_text("#cases") == "No finding matches these filters."


def test_all_findings_shown_can_be_decided_together(
    made: tuple[Path, Findings], show: Callable[..., Any], tmp_path: Path
) -> None:
    page = show(made[0])
    page.select_option("#bulk", "keep")
    page.click("#bulk-apply")
    assert {step.action for step in read_plan(save(page, tmp_path / "plan.csv"))} == {"keep"}
    page.select_option("#filter-kind", "label")
    page.select_option("#bulk", "move")
    page.click("#bulk-apply")
    moved = [(s.file, s.to) for s in read_plan(save(page, tmp_path / "plan.csv")) if s.action == "move"]
    assert moved == [("training/daisy/3.jpg", "rose"), ("training/daisy/4.jpg", "rose")]
    page.select_option("#filter-kind", "leak")
    page.select_option("#bulk", "quarantine")
    page.click("#bulk-apply")
    gone = [s.file for s in read_plan(save(page, tmp_path / "plan.csv")) if s.action == "quarantine"]
    assert gone == ["evaluation/daisy/7.jpg"]


def test_a_copy_is_laid_over_its_original_the_right_way_round(
    made: tuple[Path, Findings], show: Callable[..., Any]
) -> None:
    page = show(made[0])
    assert page.locator(".difference").count() == 1
    assert page.evaluate("document.querySelectorAll('.difference img')[1].style.transform") == "scaleX(-1)"
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) > 10
    assert min(widths) == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(made: tuple[Path, Findings], show: Callable[..., Any], scheme: str) -> None:
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    # The page's own policy lets no other script in.
    page = show(made[0], color_scheme=scheme, bypass_csp=True)
    page.evaluate(script)
    page.click("article[data-place='5'] button[data-action=move]")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]] == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(
    made: tuple[Path, Findings], show: Callable[..., Any], width: int, tmp_path: Path
) -> None:
    hostile = tmp_path / "check.html"
    write_check_page(hostile, make_hostile(str(tmp_path)), max_pixels=10**8)
    for path in (made[0], hostile):
        assert show(path, width=width).evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_the_first_findings_can_be_read(
    made: tuple[Path, Findings], show: Callable[..., Any]
) -> None:
    page = show(made[0], java_script_enabled=False)
    assert page.locator("article.case").count() == 6
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#save").is_visible()
    assert page.locator("article.case img").count() > 6


def test_a_hundred_thousand_findings_open_and_turn_quickly(show: Callable[..., Any], tmp_path: Path) -> None:
    pictures = tuple(
        PictureFinding(
            file=f"class {n % 100}/picture number {n:06}.jpg", kind="blurred", reason=f"Detail {n}."
        )
        for n in range(100_000)
    )
    write_check_page(tmp_path / "check.html", Findings(source="x", pictures=pictures), max_pixels=10**8)
    begun = time.monotonic()
    page = show(tmp_path / "check.html")
    page.wait_for_selector("article[data-place='49']")
    # Generous, for a busy machine: about 1.5 s on two free cores.
    assert time.monotonic() - begun < 20
    assert page.locator("article.case").count() == 50
    page.fill("#filter-text", "number 099999")
    wait_for_cases(page, 1)
    steps = read_plan(save(page, tmp_path / "plan.csv"))
    assert len(steps) == 100_000
