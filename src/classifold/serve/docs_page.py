"""`GET /docs`: the description of the interface as a page, which needs nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from classifold.pages import open_templates
from classifold.serve.openapi import build_openapi


async def answer_docs(request: Request) -> Response:
    """Return the page, whose examples name the address that it was asked at."""
    content, style_hash = _build_page(str(request.base_url).rstrip("/"))
    policy = f"default-src 'none'; style-src 'sha256-{style_hash}'; frame-ancestors 'none'"
    return HTMLResponse(content, headers={"Content-Security-Policy": policy})


@functools.lru_cache(maxsize=8)
def _build_page(address: str) -> tuple[str, str]:
    """Return the page, and the hash of its style in base64, which alone is allowed to apply."""
    style = files("classifold.serve").joinpath("templates", "docs.css").read_text(encoding="utf-8")
    description = build_openapi()
    content = (
        open_templates("classifold.serve")
        .get_template("docs.html.j2")
        .render(
            title=description["info"]["title"],
            version=description["info"]["version"],
            operations=list(_list_operations(description)),
            schemas={
                name: json.dumps(schema, indent=1)
                for name, schema in description["components"]["schemas"].items()
            },
            style=style,
            address=address,
        )
    )
    return content, base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")


def _list_operations(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            yield {
                "method": method.upper(),
                "path": path,
                "summary": operation["summary"],
                "parameters": operation.get("parameters", []),
                "bodies": {
                    kind: (_name_schema(body), body["schema"].get("description", ""))
                    for kind, body in operation.get("requestBody", {}).get("content", {}).items()
                },
                "answers": [
                    (
                        status,
                        answer["description"],
                        {k: _name_schema(v) for k, v in answer["content"].items()},
                    )
                    for status, answer in operation["responses"].items()
                ],
            }


def _name_schema(content: dict[str, Any]) -> str:
    """Return the name of the schema of a body; empty where it has none of its own."""
    reference: str = content["schema"].get("$ref", "")
    return reference.rpartition("/")[2]


ROUTES = [Route("/docs", answer_docs)]
