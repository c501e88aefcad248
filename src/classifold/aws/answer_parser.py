"""Parsing AWS's answers, and recognizing what is none: a proxy's page or a cut text."""

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
# How much of an answer is looked at to tell whether it is a page: listings are long.
_HEAD_BYTES = 4096


class Answer(dict[str, Any]):
    """An answer of AWS's: reading a key that it lacks raises UnreadableAnswerError."""

    def __missing__(self, name: str) -> Any:
        """Refuse a key that the answer lacks.

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
        """Return what a response says, as botocore's parser returns it.

        A server's fault (500 and above) that cannot be read becomes a refusal with the status as its code:
        botocore tries it again, as any fault of a server's.

        Raises:
            UnreadableAnswerError: It is not AWS's: a page, a cut text, a redirection to somewhere else.
        """
        status = int(response["status_code"])
        problem = _find_page(response) or self._find_problem(response, shape, status=status)
        if not problem:
            # Parsers leak whatever their libraries raise.
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
        """Return why a response cannot be AWS's; empty where it may be."""
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return "a proxy wants you to sign in to it"
        # S3 alone sends to other places, with these two.
        if 300 <= status < 400 and not (self.is_s3 and status in (301, 307)):
            return "it is a redirection"
        return self._find_odd_body(response, shape) if status < 300 else ""

    def _find_odd_body(self, response: dict[str, Any], shape: Any) -> str:
        """Return why the body of a response that says 200 cannot be AWS's; empty where it may be."""
        body = response.get("body")
        if not isinstance(body, bytes):
            return ""  # a stream: an object of the user's
        if not body.strip():
            return "it is empty" if _has_body(shape) else ""
        if not self.is_json:
            return ""  # what is no XML is found by botocore's parser
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
    """Tell whether an operation's answer says something beyond its headers."""
    members = getattr(shape, "members", None) or {}
    payload = members.get(shape.serialization.get("payload")) if shape is not None else None
    if payload is not None:
        return bool(payload.type_name == "structure")
    return any("location" not in one.serialization for one in members.values())


def _find_page(response: dict[str, Any]) -> str:
    """Return which page for a browser a response is; empty where it is none."""
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
    """Return a server's fault in the form in which botocore returns AWS's refusals."""
    status = int(response["status_code"])
    headers = {str(key).lower(): value for key, value in response["headers"].items()}
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return {"Error": {"Code": str(status), "Message": problem}, "ResponseMetadata": metadata}
