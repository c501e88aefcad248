"""The documentation as a site: built strictly, complete, private, readable on a phone."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="no mkdocs-material: scripts/docs installs it"
)
needs_browser = [
    pytest.mark.browser,
    needs_mkdocs,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright"),
]
# Pages for the browser: many wide tables, long code, the first page, and text.
LOOKED_AT = ("index", "settings", "aws", "troubleshooting", "comparison", "getting-started", "commands")


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of the documentation in `folder` as scripts/docs does."""
    words = ("-m", "mkdocs", "build", "--strict", "--site-dir", site)
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@needs_mkdocs
def test_the_site_is_built_without_a_broken_link_and_has_every_page(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    made = {path.stem for path in site.glob("*.html")}
    assert pages | {"index", "security", "changelog", "benchmarks"} <= made
    assert not list(site.rglob("*.py"))


BROKEN = """
[gone](gone.md)
[no such heading](settings.md#nowhere)
[not in the repository](../nothing.py)
"""


@needs_mkdocs
def test_a_broken_link_fails_the_build_and_each_is_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]:
        shutil.copy(path, tmp_path)
    for name in ("benchmarks", "container", "scripts", "src", "tests", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs" / "glossary.md").open("a", encoding="utf-8") as page:
        page.write(BROKEN)
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert [one for one in ("gone.md", "#nowhere", "nothing.py") if one not in done.stderr] == []
    assert "Aborted with 3 warnings" in done.stdout + done.stderr


def test_every_page_is_in_the_menu_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    menu = re.findall(r"^ +- .+: ([\w-]+\.md)$", text, re.MULTILINE)
    assert len(menu) == len(set(menu))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= set(menu)


@needs_mkdocs
def test_the_site_asks_nothing_of_another_host(site: Path) -> None:
    asked = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"?(https?:[^\s\">]+)")
    for page in site.glob("*.html"):
        found = [one for one in asked.findall(page.read_text(encoding="utf-8")) if "canonical" not in one]
        assert not found, page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\"?https?:|@import", style.read_text(encoding="utf-8")), style.name


@needs_mkdocs
@pytest.mark.parametrize(
    ("source", "written", "expected"),
    [
        ("README.md", "[a](docs/aws.md#role)", "[a](aws.md#role)"),
        ("README.md", '<img src="docs/site.css">', '<img src="site.css">'),
        ("README.md", "[a](SECURITY.md)", "[a](security.md)"),
        ("README.md", "[a](#settings)", "[a](#settings)"),
        ("README.md", "[a](scripts/docs)", "[a](HOST/blob/main/scripts/docs)"),
        ("docs/aws.md", "[a](../README.md#settings)", "[a](index.md#settings)"),
        ("docs/aws.md", "[a](../benchmarks/README.md)", "[a](benchmarks.md)"),
        ("docs/aws.md", "[a](../benchmarks)", "[a](HOST/tree/main/benchmarks)"),
        ("benchmarks/README.md", "[a](../docs/aws.md)", "[a](aws.md)"),
        ("docs/aws.md", "[a](https://example.com/docs/aws.md)", "[a](https://example.com/docs/aws.md)"),
        ("docs/aws.md", "`[a](../README.md)`", "`[a](../README.md)`"),
        ("docs/aws.md", "```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
    ],
)
def test_a_link_works_on_the_git_host_and_in_the_site(source: str, written: str, expected: str) -> None:
    convert = runpy.run_path(str(ROOT / "docs" / "site.py"))["convert_links"]
    assert convert(written, source=source, repository="HOST") == expected


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def open_page(address: str) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page in a browser that reaches the site alone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)

        def open_at(name: str, *, width: int, base: str = address) -> Any:
            page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"{base}/{name}.html", wait_until="networkidle")
            assert [one for one in asked if not one.startswith((base, "data:", "blob:"))] == []
            return page

        yield open_at
        browser.close()


class TestInABrowser:
    pytestmark = needs_browser

    @pytest.mark.parametrize("width", [390, 1280])
    @pytest.mark.parametrize("name", LOOKED_AT)
    def test_no_page_is_wider_than_the_screen(
        self, name: str, width: int, open_page: Callable[..., Any]
    ) -> None:
        page = open_page(name, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # What is too wide scrolls within its own frame, or is broken; nothing is cut off.
        cut = """[...document.querySelectorAll('.md-content table, .md-content pre, .md-content img')]
            .filter(one => one.getBoundingClientRect().right > innerWidth + 1
                    && !one.closest('.md-typeset__scrollwrap, pre')).length"""
        assert page.evaluate(cut) == 0

    @pytest.mark.parametrize("is_file", [False, True], ids=["from a server", "from a file"])
    def test_the_search_finds_a_setting_on_its_page(
        self, is_file: bool, open_page: Callable[..., Any], site: Path, address: str
    ) -> None:
        page = open_page("index", width=1280, base=site.as_uri() if is_file else address)
        page.click(".md-search__input")
        page.keyboard.type("SPLIT_GROUP_PATTERN")
        page.wait_for_selector(".md-search-result__item")
        assert "settings" in page.inner_text(".md-search-result__list").lower()
