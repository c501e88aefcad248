"""A real browser for the tests of pages, which have `pytestmark = NEEDS_BROWSER`."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NEEDS_BROWSER = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="no playwright: pip install playwright"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opening_pages(
    browser: Any, *, schemes: tuple[str, ...], in_folder: bool = False
) -> Iterator[Callable[..., Any]]:
    """Give a function that opens a page; a message, dialog or request elsewhere fails the test at the end.

    Args:
        browser: The fixture.
        schemes: Beginnings of addresses that a page may ask for besides its own, such as "data:".
        in_folder: A page may also ask for the files in its folder.
    """
    with opening_addresses(browser) as open_address:

        def open_page(
            path: Path, *, width: int = 1280, asked: list[str] | None = None, **options: Any
        ) -> Any:
            own = path.as_uri()
            allowed = (*schemes, *([f"{path.parent.as_uri()}/"] if in_folder else []))

            def may_ask(url: str) -> bool:
                if asked is not None:
                    asked.append(url)
                return url == own or url.startswith(allowed)

            return open_address(own, may_ask=may_ask, width=width, **options)

        yield open_page


@contextlib.contextmanager
def opening_addresses(browser: Any, *, passed_over: str = "") -> Iterator[Callable[..., Any]]:
    """Give a function that opens an address; messages, dialogs and other requests fail the test at the end.

    Args:
        browser: The fixture.
        passed_over: Beginning of messages in the console that are no fault; empty for none.
    """
    contexts, complaints = [], []

    def hear(message: Any) -> None:
        if not passed_over or not message.text.startswith(passed_over):
            complaints.append(message.text)

    def open_address(
        address: str, *, may_ask: Callable[[str], bool], width: int = 1280, **options: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: may_ask(request.url) or complaints.append(request.url))
        page.goto(address)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert complaints == []
