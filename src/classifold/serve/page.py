"""The page at `/` for people: one file of HTML, its style and its scripts, all from this package."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_STATIC: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "asking.js": "text/javascript",
    "card.js": "text/javascript",
    "words.js": "text/javascript",
}
# The page runs its own scripts and styles only, asks this server only, and stands in no other page's frame.
# Pictures in its answers are data URLs.
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_routes() -> list[Route]:
    """Return the routes `/` and `/static/…`, which say nothing about the model, so they need no key.

    The addresses in the page are relative, so that it works behind a proxy that adds a prefix.
    """
    folder = files("classifold.serve")
    page = _Part(folder.joinpath("templates", "page.html").read_bytes(), "text/html")
    parts = {
        name: _Part(folder.joinpath("static", name).read_bytes(), kind) for name, kind in _STATIC.items()
    }

    async def show_page(request: Request) -> Response:
        return page.answer(request)

    async def show_part(request: Request) -> Response:
        part = parts.get(request.path_params["path"])
        if part is None:
            raise HTTPException(404)
        return part.answer(request)

    return [Route("/", show_page), Route("/static/{path}", show_part)]


class _Part:
    """A file of the page, in memory."""

    def __init__(self, content: bytes, kind: str) -> None:
        self._content, self._kind = content, kind
        self._headers = {
            "Content-Security-Policy": CONTENT_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            # Asked again each time, so that a browser never mixes the parts of two releases.
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        }

    def answer(self, request: Request) -> Response:
        known = request.headers.get("If-None-Match", "").split(",")
        if self._headers["ETag"] in (one.strip().removeprefix("W/") for one in known):
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, media_type=self._kind, headers=self._headers)
