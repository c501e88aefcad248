"""The page in a real browser, with a real server: drop, paste, choose, keyboard, phone, key, errors, axe."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_browser import NEEDS_BROWSER, opening_addresses
from made_servers import RunningServer, serving
from made_spots import make_spot_run, paint_spot, write_spots

pytestmark = NEEDS_BROWSER
HOSTILE = "<img src=x onerror=alert(1)>' $(touch x).png"
KEY = "a key of the test"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose model answers with a confidence of at least 60 %, and knows its training pictures."""
    folder = tmp_path_factory.mktemp("served")
    run = make_spot_run(folder / "run", with_distance=True)
    data = write_spots(folder / "training")
    options = ("--data", data, "--threshold", "0.6", "--max-mb", "1")
    with serving(folder, run, *options) as server:
        yield server


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(paint_spot("blue")).resize((400, 200), Image.Resampling.NEAREST).save(folder / "blue.png")
    Image.fromarray(paint_spot("red", side=10)).save(folder / HOSTILE)
    Image.new("RGB", (40, 400), (127, 127, 127)).save(folder / "grey.png")
    (folder / "notes.txt").write_text("no picture")
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(folder / "large.png")
    return folder


@pytest.fixture
def visit(browser: Any, served: RunningServer) -> Iterator[Callable[..., Any]]:
    """Return a function that opens the page.

    At the end the test fails if the page asked another server for something, or anything was said in the
    console except that a request was refused, which a browser always says.
    """
    with opening_addresses(browser, passed_over="Failed to load resource") as open_address:

        def visit(address: str = served.address, **options: Any) -> Any:
            return open_address(address, may_ask=lambda url: url.startswith((address, "data:")), **options)

        yield visit


def settle(page: Any) -> Any:
    """Wait until no picture waits any more, and return the cards."""
    page.locator(".card").first.wait_for()
    page.locator(".card:is(:not([data-state]), [data-state=waiting])").first.wait_for(state="detached")
    return page.locator(".card")


def choose(page: Any, *paths: Path) -> Any:
    page.set_input_files("#choose", [str(path) for path in paths])
    return settle(page)


def transfer(page: Any, event: str, pictures: dict[str, bytes], target: str) -> None:
    """Send a drop or a paste with files to an element, as a browser does."""
    sent = [[name, base64.b64encode(content).decode()] for name, content in pictures.items()]
    page.evaluate(
        """([event, files, target]) => {
            const data = new DataTransfer();
            for (const [name, text] of files) {
                const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const init = { bubbles: true, cancelable: true };
            const made = event === "paste"
                ? new ClipboardEvent("paste", { ...init, clipboardData: data })
                : new DragEvent(event, { ...init, dataTransfer: data });
            document.querySelector(target).dispatchEvent(made);
        }""",
        [event, sent, target],
    )


def test_one_picture_is_named_with_bars_and_explained_without_a_click(
    visit: Callable[..., Any], photos: Path
) -> None:
    page = visit()
    card = choose(page, photos / "blue.png")
    assert card.locator("h2").inner_text().startswith("blue")
    rows = card.locator(".classes li").all_inner_texts()
    assert rows[0].startswith("blue")
    assert sum(float(re.findall(r"([\d.]+)\u00a0%", row)[0]) for row in rows) == pytest.approx(100, abs=0.2)
    widths = [bar.bounding_box()["width"] for bar in card.locator(".fill").all()]
    track = card.locator(".track").first.bounding_box()["width"]
    assert widths[0] / track == pytest.approx(float(re.findall(r"([\d.]+)", rows[0])[0]) / 100, abs=0.02)
    card.locator(".overlay").wait_for()
    thumbnails = card.locator(".neighbours img")
    assert thumbnails.count() == 5
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert "better than all 19 random maps" in card.locator(".faith").inner_text()
    assert "1 is the limit" in card.locator(".near").inner_text()
    assert "a faithful map has a low deletion and a high insertion" in card.locator(".figures").inner_text()
    assert card.locator(".unseen").is_hidden()
    # The picture is seen through its heat map.
    assert card.locator(".heat output").inner_text() == "60\u00a0%"
    assert card.locator(".overlay").evaluate("(one) => getComputedStyle(one).opacity") == "0.6"
    # The heat map lies exactly on the picture.
    boxes = [one.bounding_box() for one in card.locator(".picture img").all()]
    assert boxes[0] == boxes[1]


def test_the_heat_map_fades_with_its_slider_by_keyboard(visit: Callable[..., Any], photos: Path) -> None:
    page = visit()
    card = choose(page, photos / "blue.png")
    overlay, slider = card.locator(".overlay"), card.locator(".heat input")
    overlay.wait_for()
    slider.focus()
    for key, opacity, said in (
        ("Home", 0, "off"),
        ("ArrowRight", 0.05, "5\u00a0%"),
        ("End", 1, "100\u00a0%"),
    ):
        page.keyboard.press(key)
        assert float(overlay.evaluate("(one) => getComputedStyle(one).opacity")) == pytest.approx(opacity)
        assert card.locator("output").inner_text() == said


def test_several_pictures_are_listed_with_what_is_unknown_or_cannot_be_read(
    visit: Callable[..., Any], photos: Path
) -> None:
    page = visit()
    cards = choose(page, photos / "blue.png", photos / "grey.png", photos / "notes.txt", photos / "large.png")
    assert [card.get_attribute("data-state") for card in cards.all()] == [
        *("answered", "unknown", "unreadable", "unreadable")
    ]
    assert page.locator("#counts").inner_text() == "4 pictures: 1 named, 1 unknown, 2 not read"
    said = [text.partition("\n")[0] for text in cards.locator(".why:visible").all_inner_texts()]
    assert re.fullmatch(r"Unlike the training pictures: distance [\d.]+, and 1 is the limit\.", said[0])
    assert "the file holds no picture" in said[1]
    assert "larger than 1 MB" in said[2]
    # What is no picture has no preview for a reason that has nothing to do with the browser.
    shown = cards.locator(".absent:visible").all_inner_texts()
    assert shown == ["No preview."]
    # Nobody asked for an explanation of so many, and what cannot be read has none.
    assert page.locator(".explanation:visible").count() == 0
    assert page.locator(".explain:visible").count() == 2
    cards.nth(1).locator(".explain").click()
    cards.nth(1).locator(".explanation").wait_for()
    assert "No heat map is shown" in cards.nth(1).locator(".faith").inner_text()
    assert cards.nth(1).locator(".overlay").count() == 0


def test_a_video_is_said_to_be_for_predict(visit: Callable[..., Any], tmp_path: Path) -> None:
    video = tmp_path / "film.mp4"
    video.write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(200))
    card = choose(visit(), video)
    assert card.locator(".absent").inner_text() == "No preview."
    said = card.locator(".why").inner_text()
    assert "the file holds a video" in said
    assert "classifold predict" in said


def test_training_pictures_are_named_in_full_and_those_that_are_not_shown_are_explained(
    visit: Callable[..., Any], photos: Path, tmp_path: Path
) -> None:
    run = make_spot_run(tmp_path / "run", with_distance=True)
    with serving(tmp_path, run) as server:
        page = visit(server.address, width=320)
        card = choose(page, photos / "blue.png")
        card.locator(".neighbours li").first.wait_for()
        assert card.locator(".neighbours img").count() == 0
        assert "--data" in card.locator(".unseen").inner_text()
        # No part of a name is cut off or needs a mouse.
        keys = card.locator(".neighbours .key")
        assert all(re.fullmatch(r"(red|green|blue)/\S+\.png", name) for name in keys.all_inner_texts())
        for key in keys.all():
            assert key.evaluate("(one) => one.scrollHeight <= one.clientHeight + 1")
            assert key.evaluate("(one) => getComputedStyle(one).webkitLineClamp") == "none"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_hostile_name_is_shown_as_text_and_quoted_in_the_command(
    visit: Callable[..., Any], photos: Path
) -> None:
    card = choose(visit(), photos / HOSTILE)
    assert HOSTILE in card.locator(".file").inner_text()
    card.locator("summary").click()
    words = shlex.split(card.locator(".curl").inner_text())
    assert f"@{HOSTILE}" in words
    # The command as shown gives the answer as shown.
    answer = subprocess.run(words, capture_output=True, check=True, cwd=photos).stdout
    shown = json.loads(card.locator(".json").inner_text())
    assert json.loads(answer)["predictions"] == shown["predictions"]


def test_dropped_and_pasted_pictures_are_answered_and_what_is_no_picture_is_said(
    visit: Callable[..., Any], photos: Path
) -> None:
    page = visit()
    blue, grey = ((photos / name).read_bytes() for name in ("blue.png", "grey.png"))
    transfer(page, "dragenter", {"blue.png": b""}, "body")
    assert "over" in str(page.locator("#drop").get_attribute("class"))
    transfer(page, "drop", {"blue.png": blue, "grey.png": grey}, "footer")  # anywhere on the page
    assert "over" not in str(page.locator("#drop").get_attribute("class"))
    assert settle(page).count() == 2
    transfer(page, "paste", {"image.png": blue}, "body")
    page.locator(".card").nth(2).wait_for()
    assert settle(page).first.locator("h2").inner_text().startswith("blue")
    transfer(page, "paste", {}, "body")
    assert "no picture in the clipboard" in page.locator("#message").inner_text()


def test_the_keyboard_alone_is_enough(visit: Callable[..., Any], photos: Path) -> None:
    page = visit()
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    focused = "document.activeElement.id || document.activeElement.className"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the pictures"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "choose"
    # The button around the hidden field is what a person sees: it shows the focus.
    outline = page.evaluate("getComputedStyle(document.querySelector('label.first')).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Space")
    while not choosers:
        page.wait_for_timeout(20)
    choosers[0].set_files([str(photos / "blue.png"), str(photos / "grey.png")])
    cards = settle(page)
    names = []
    for _ in range(6):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))
    assert names == [
        *("Remove all", "Show why: blue.png", "Remove: blue.png", "For programs: curl and JSON"),
        *("Show why: grey.png", "Remove: grey.png"),
    ]
    page.locator(".explain").first.focus()
    page.keyboard.press("Enter")
    cards.first.locator(".overlay").wait_for()
    assert page.evaluate("document.activeElement.type") == "range"  # where the explanation is
    cards.first.locator(".remove").focus()
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove: grey.png"
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == 0
    assert page.evaluate(focused) == "choose"


def test_a_screen_reader_hears_each_answer(visit: Callable[..., Any], photos: Path) -> None:
    page = visit()
    page.evaluate(
        """() => {
            window.heard = [];
            new MutationObserver(() => window.heard.push(document.getElementById("status").textContent))
                .observe(document.getElementById("status"), { childList: true });
        }"""
    )
    cards = choose(page, photos / "blue.png", photos / "grey.png", photos / "notes.txt")
    heard = page.evaluate("window.heard")
    assert any(re.fullmatch(r"blue\.png: blue, [\d.]+\u00a0%", one) for one in heard)
    assert any(re.match(r"grey\.png: unknown, best guess ", one) for one in heard)
    assert any(one.startswith("notes.txt: ") and "no picture" in one for one in heard)
    assert cards.first.locator("canvas").get_attribute("aria-label") == "The picture blue.png"


@pytest.mark.parametrize(
    ("width", "scheme"), [(320, "dark"), (390, "light"), (1280, "light"), (1280, "dark")]
)
def test_nothing_is_found_by_axe_and_the_page_never_scrolls_sideways(
    visit: Callable[..., Any], photos: Path, width: int, scheme: str
) -> None:
    page = visit(width=width, color_scheme=scheme, reduced_motion="reduce")
    cards = choose(page, photos / "blue.png", photos / "grey.png", photos / "notes.txt", photos / HOSTILE)
    cards.first.locator(".explain").click()
    cards.first.locator(".overlay").wait_for()
    cards.first.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1280, "light")])
def test_the_description_of_the_interface_is_read_whole_on_a_phone(
    visit: Callable[..., Any], served: RunningServer, width: int, scheme: str
) -> None:
    page = visit(f"{served.address}/docs", width=width, color_scheme=scheme)
    commands = page.locator("p + pre").all()
    assert len(commands) == 2
    for command in commands:
        assert "/predict" in command.inner_text()
        assert command.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


def test_a_phone_offers_its_camera(visit: Callable[..., Any], photos: Path) -> None:
    page = visit(width=390, is_mobile=True, has_touch=True)
    camera = page.locator("#photograph")
    assert page.locator(".camera").is_visible()
    assert camera.get_attribute("capture") == "environment"
    box = page.locator(".camera").bounding_box()
    assert box["height"] >= 44  # a finger
    camera.set_input_files(str(photos / "blue.png"))
    assert settle(page).locator("h2").inner_text().startswith("blue")


def test_the_key_is_asked_for_kept_in_the_tab_only_and_asked_for_again_where_it_is_wrong(
    visit: Callable[..., Any], served: RunningServer, photos: Path, tmp_path: Path
) -> None:
    run = make_spot_run(tmp_path / "run")
    with serving(tmp_path, run, env={"CLASSIFOLD_API_KEY": KEY}) as locked:
        page = visit(locked.address)
        form = page.locator("#key-form")
        form.wait_for()
        assert page.evaluate("document.activeElement.id") == "key"
        page.set_input_files("#choose", str(photos / "blue.png"))
        page.locator(".card[data-state=locked]").wait_for()
        assert page.locator(".why").inner_text() == "The server requires an API key: enter it above."
        assert page.locator("#model").inner_text() == "Classifold"
        page.fill("#key", "a wrong key")
        page.keyboard.press("Enter")
        page.get_by_text("The server did not accept this key.").wait_for()
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.locator(".card[data-state=answered]").wait_for()
        assert form.is_hidden()
        assert page.locator("#classes").inner_text().startswith("This model tells 3 classes apart")
        assert page.locator("#model").inner_text() == "run"
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        page.locator("summary").click()
        command = page.locator(".curl").inner_text()
        assert "$CLASSIFOLD_API_KEY" in command
        assert KEY not in command
        # Another tab does not know it; the log does not hold it.
        other = page.context.new_page()
        other.goto(locked.address)
        other.locator("#key-form").wait_for()
        assert KEY not in locked.log


def test_a_server_that_is_gone_is_said_and_the_picture_can_be_sent_again(
    visit: Callable[..., Any], photos: Path, tmp_path: Path
) -> None:
    run = make_spot_run(tmp_path / "run")
    with serving(tmp_path, run) as server:
        page = visit(server.address)
        page.locator("#version:not(:empty)").wait_for()
        page.context.set_offline(True)
        page.set_input_files("#choose", str(photos / "blue.png"))
        page.locator(".card[data-state=refused]").wait_for()
        assert "The server cannot be reached" in page.locator(".why").inner_text()
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        page.locator(".card[data-state=answered]").wait_for()
        page.locator(".overlay").wait_for()
        assert page.locator(".why").is_hidden()


def test_a_busy_server_is_asked_again_after_the_time_that_it_says(
    visit: Callable[..., Any], photos: Path
) -> None:
    page = visit()
    refused: list[int] = []

    def refuse_twice(route: Any) -> None:
        if len(refused) == 2:
            route.continue_()
            return
        refused.append(429)
        body = json.dumps({"error": "the queue is full: 256 pictures wait", "request_id": "x"})
        route.fulfill(status=429, headers={"Retry-After": "1"}, content_type="application/json", body=body)

    page.route("**/predict?*", refuse_twice)
    page.set_input_files("#choose", str(photos / "blue.png"))
    page.locator("#status", has_text="The server is busy: trying again in 1 s.").wait_for(state="attached")
    page.locator(".card[data-state=answered]").wait_for()
    assert refused == [429, 429]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (502, "<html>Bad Gateway</html>", "The server behind this address does not answer."),
        (413, "<html>Too Large</html>", "The picture is larger than this server takes."),
        (415, '{"error": "a body of type image/x is not read", "hint": "send a JPEG"}', "Send a JPEG."),
        (200, "<html>Log in to the hotel's network</html>", "What answered is not this server"),
        (418, "", "The server answered with the status 418."),
    ],
)
def test_what_a_proxy_answers_is_said_in_words(
    visit: Callable[..., Any], photos: Path, status: int, body: str, said: str
) -> None:
    page = visit()
    page.route("**/predict?*", lambda route: route.fulfill(status=status, body=body))
    page.set_input_files("#choose", str(photos / "blue.png"))
    page.locator(".card.failed").wait_for()
    assert said in page.locator(".why").inner_text()


def test_no_more_pictures_than_a_page_holds_are_taken_and_the_rest_is_told(
    visit: Callable[..., Any], photos: Path
) -> None:
    page = visit()
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 0, 255)).save(content, "PNG")
    transfer(page, "drop", {f"{number}.png": content.getvalue() for number in range(103)}, "body")
    assert "3 pictures left out: the page holds 100" in page.locator("#message").inner_text()
    assert settle(page).count() == 100
    assert page.locator("#counts").inner_text().startswith("100 pictures:")


def test_the_page_works_behind_a_proxy_that_adds_a_prefix(
    visit: Callable[..., Any], served: RunningServer, photos: Path
) -> None:
    page = visit()
    prefix = f"{served.address}/proxy/8080/"
    page.route(
        f"{prefix}**",
        lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace("proxy/8080/", ""))),
    )
    page.goto(prefix)
    assert choose(page, photos / "blue.png").locator("h2").inner_text().startswith("blue")
