"""The page's files as the server gives them."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from classifold.serve.page import build_routes

FOLDER = files("classifold.serve")


def get(address: str, **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Starlette(routes=[*build_routes()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(address, **options)

    return asyncio.run(ask())


def list_texts() -> dict[str, str]:
    """Return the page and its parts by their address."""
    parts = {f"/static/{one.name}": one.read_text("utf-8") for one in FOLDER.joinpath("static").iterdir()}
    return {"/": FOLDER.joinpath("templates", "page.html").read_text("utf-8"), **parts}


@pytest.mark.parametrize("address", list_texts())
def test_every_file_of_the_page_is_served_as_it_is_with_a_strict_policy(address: str) -> None:
    answer = get(address)
    assert answer.status_code == 200
    assert answer.text == list_texts()[address]
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    kinds = {"css": "text/css", "js": "text/javascript"}
    wanted = kinds.get(address.rpartition(".")[2], "text/html")
    assert answer.headers["Content-Type"] == f"{wanted}; charset=utf-8"


def test_the_page_names_its_own_files_only_and_each_by_a_relative_address() -> None:
    for address, text in list_texts().items():
        # The placeholder of the curl line is no address.
        assert re.findall(r"(?:https?:)?//[a-z0-9]", text.replace("http://ADDRESS/", "")) == [], address
        for named in re.findall(r'(?:src|href)="([^"#]+)"|from "([^"]+)"', text):
            (found,) = filter(None, named)
            if found in ("data:,", "docs", "openapi.json"):
                continue
            assert not found.startswith("/"), address
            base = "/" if address == "/" else "/static/"
            assert get(base + found.removeprefix("./")).status_code == 200


def test_no_script_and_no_style_stands_in_the_page_itself() -> None:
    page = list_texts()["/"]
    assert "<style" not in page
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\s(?:on[a-z]+|style)=", page) == []


def test_a_browser_that_has_a_file_is_not_sent_it_again() -> None:
    first = get("/static/page.js")
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = get("/static/page.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert get("/static/page.js", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "address",
    ["/static/", "/static/other.js", "/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py"],
)
def test_there_is_nothing_beside_the_files_of_the_page(address: str) -> None:
    assert get(address).status_code == 404
