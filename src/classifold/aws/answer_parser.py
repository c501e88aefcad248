"""Parsing AWS's answers, and recognizing those that are not AWS's: a proxy's page, a truncated text."""

from __future__ import annotations

import contextlib
import html
import json
import re
from http import HTTPStatus
from typing import Any

from botocore.parsers import ResponseParserFactory

from classifold.aws.no_answer import UnreadableAnswerError

_PAGE = re.compile(
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TITLE_LIMIT = 80
# A page is recognized by its first bytes, since answers can be long.
_HEAD_BYTES = 4096


class Answer(dict[str, Any]):
    """An answer of AWS; reading a missing key raises UnreadableAnswerError."""

    def __missing__(self, name: str) -> Any:
        """Refuse a missing key.

        Raises:
            UnreadableAnswerError: Always.
        """
        raise UnreadableAnswerError(f"it lacks {name}")


class AnswerParserFactory(ResponseParserFactory):  # type: ignore[misc]  # boto is untyped
    """Makes botocore's parsers, each wrapped in our check."""

    def create_parser(self, protocol_name: str) -> Any:
        """Return the parser of a protocol, given botocore's name for it."""
        return _AnswerParser(super().create_parser(protocol_name), protocol_name)


class _AnswerParser:
    """Botocore's parser of a protocol, after a check that the response can come from AWS."""

    def __init__(self, parser: Any, protocol: str) -> None:
        self.parser = parser
        self.is_json = "json" in protocol
        self.is_s3 = protocol == "rest-xml"

    def parse(self, response: dict[str, Any], shape: Any) -> Any:
        """Return the parsed response, as botocore's parser returns it.

        A server error (500 and above) that cannot be read becomes an error with the status as its code, so
        that botocore retries it like any server error.

        Raises:
            UnreadableAnswerError: It is not from AWS: a page, a truncated text, a redirection elsewhere.
        """
        status = int(response["status_code"])
        problem = _find_page(response) or self._find_problem(response, shape, status=status)
        if not problem:
            # Botocore's parsers let any exception of their libraries through.
            try:
                parsed = self.parser.parse(response, shape)
            except Exception:
                problem = "it is not in AWS's format, or it was cut short"
            else:
                return Answer(parsed) if status < 300 and type(parsed) is dict else parsed
        if status >= 500:
            return _refuse(response, problem)
        raise UnreadableAnswerError(problem, status=status, location=_read_header(response, "location"))

    def _find_problem(self, response: dict[str, Any], shape: Any, *, status: int) -> str:
        """Return why a response cannot be from AWS; empty if it may be."""
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return "a proxy wants you to sign in to it"
        # Only S3 redirects, with these two codes.
        if 300 <= status < 400 and not (self.is_s3 and status in (301, 307)):
            return "it is a redirection"
        return self._find_odd_body(response, shape) if status < 300 else ""

    def _find_odd_body(self, response: dict[str, Any], shape: Any) -> str:
        """Return why the body of a successful response cannot be from AWS; empty if it may be."""
        body = response.get("body")
        if not isinstance(body, bytes):
            return ""  # a stream: the content of an object
        if not body.strip():
            return "it is empty" if _has_body(shape) else ""
        if not self.is_json:
            return ""  # botocore's parser refuses what is not XML
        try:
            found = json.loads(body)
        except ValueError:
            return "it is not JSON, or it was cut short"
        if not getattr(shape, "members", None) or found in ({}, None):
            return ""
        known = {one.serialization.get("name", name) for name, one in shape.members.items()}
        is_ours = isinstance(found, dict) and not known.isdisjoint(found)
        return "" if is_ours else "it is JSON, but not from AWS"


def _has_body(shape: Any) -> bool:
    """Tell whether an operation's answer has a body."""
    members = getattr(shape, "members", None) or {}
    payload = members.get(shape.serialization.get("payload")) if shape is not None else None
    if payload is not None:
        return bool(payload.type_name == "structure")
    return any("location" not in one.serialization for one in members.values())


def _find_page(response: dict[str, Any]) -> str:
    """Return a description of the web page that a response is; empty if it is not one."""
    body = response.get("body")
    if not isinstance(body, bytes) or not _PAGE.match(body[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")):
        return ""
    title = _TITLE.search(body[:_HEAD_BYTES].decode("utf-8", "replace"))
    said = " ".join(html.unescape(title[1]).split())[:_TITLE_LIMIT] if title else ""
    return f'it is a page for a browser, titled "{said}"' if said else "it is a page for a browser"


def _read_header(response: dict[str, Any], name: str) -> str:
    with contextlib.suppress(KeyError, AttributeError):
        headers = {str(key).lower(): str(value) for key, value in response["headers"].items()}
        return headers.get(name, "")
    return ""


def _refuse(response: dict[str, Any], problem: str) -> dict[str, Any]:
    """Return a server error in the form in which botocore returns AWS's errors."""
    status = int(response["status_code"])
    headers = {str(key).lower(): value for key, value in response["headers"].items()}
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return {"Error": {"Code": str(status), "Message": problem}, "ResponseMetadata": metadata}
