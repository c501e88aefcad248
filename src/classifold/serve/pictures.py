"""The pictures in the body of a request: raw bytes, a form with files, or JSON with base64."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, Protocol, TypeVar

from classifold.serve.errors import HttpError
from classifold.serve.form import FormReader

# Names are shown, never used as paths.
_MAX_NAME = 255
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w=.+-]+)*;base64,", re.ASCII)
_KINDS = "an image/* type, application/octet-stream, multipart/form-data or application/json"
# The last one is what curl calls the bytes of `--data-binary` where nothing else is said.
_RAW_TYPES = frozenset(
    {"application/octet-stream", "application/x-image", "application/x-www-form-urlencoded"}
)
_OTHER_VALUES, _VALUES_PER_PICTURE = 10_000, 64
_JSON_SHAPES = (
    'expected {"pictures": [BASE64, ...]}, {"pictures": [{"name": NAME, "data": BASE64}, ...]}, '
    '{"picture": BASE64} or '
    '{"instances": [{"b64": BASE64}, ...]}'
)


@dataclass(frozen=True, slots=True, eq=False)
class SentPicture:
    """A picture as the client sent it: its name, None for none, and the bytes of its file."""

    name: str | None
    data: bytes


T_co = TypeVar("T_co", covariant=True)


class BodyReader(Protocol[T_co]):
    """Takes the body of a request in pieces, and gives what is in it."""

    @property
    def weight(self) -> int:
        """Bytes of memory that a byte of the body takes until the answer is sent."""

    def add(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            HttpError: 400, it is malformed; 413, it has too many pictures.
        """

    def finish(self) -> T_co:
        """Return the content.

        Raises:
            HttpError: 400, it is malformed; 413, it has too many pictures.
        """


def open_body(content_type: str, *, max_pictures: int) -> BodyReader[list[SentPicture]]:
    """Return what reads the pictures, at least one, from a body of this type, in its order.

    Args:
        content_type: The header Content-Type; empty if there is none.
        max_pictures: Most pictures in one request.

    Raises:
        HttpError: 415, another type; 400, a form without a boundary.
    """
    kind, parameters = _parse_type(content_type)
    if not kind or kind.startswith("image/") or kind in _RAW_TYPES:
        return _RawReader()
    if kind == "multipart/form-data":
        return _FormPictures(parameters.get("boundary", ""), max_pictures=max_pictures)
    if kind == "application/json":
        return _JsonReader(max_pictures=max_pictures)
    raise HttpError(415, f"a body of type {kind[:100]} is not read", hint=f"send {_KINDS}")


def _parse_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    pairs = message.get_params() or [("", "")]
    return pairs[0][0].strip().lower(), {name.lower(): str(value) for name, value in pairs[1:]}


def clean_name(name: object) -> str | None:
    """Return a picture's name as an answer can show it; None for none.

    Args:
        name: As the client gave it.
    """
    if not isinstance(name, str) or not name:
        return None
    return name[:_MAX_NAME].encode("utf-8", "replace").decode("utf-8")


def check_count(count: int, max_pictures: int) -> None:
    """Refuse a request with too many pictures, or with none.

    Raises:
        HttpError: 400 or 413.
    """
    if not count:
        raise HttpError(400, "the request holds no picture", hint="send the bytes of a picture file")
    if count > max_pictures:
        raise HttpError(
            413, f"the request holds more than {max_pictures} pictures", hint="send them in several requests"
        )


class _RawReader:
    """A body that is one picture file."""

    weight = 2  # its pieces, and at the end both they and the whole

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def finish(self) -> list[SentPicture]:
        data = b"".join(self._pieces)
        check_count(1 if data else 0, 1)
        return [SentPicture(None, data)]


class _FormPictures:
    """A form, of which every file is a picture."""

    weight = 2

    def __init__(self, boundary: str, *, max_pictures: int) -> None:
        self._max_pictures = max_pictures
        self._reader = FormReader(boundary, max_files=max_pictures)

    def add(self, piece: bytes) -> None:
        self._reader.add(piece)

    def finish(self) -> list[SentPicture]:
        pictures = [SentPicture(clean_name(name), data) for name, data in self._reader.finish()]
        check_count(len(pictures), self._max_pictures)
        return pictures


class _JsonReader:
    """JSON with pictures as base64."""

    weight = 4  # the body, its text, and the bytes that it stands for

    def __init__(self, *, max_pictures: int) -> None:
        self._pieces: list[bytes] = []
        self._max_pictures = max_pictures

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def finish(self) -> list[SentPicture]:
        entries = _find_entries(parse_json(b"".join(self._pieces), max_pictures=self._max_pictures))
        check_count(len(entries), self._max_pictures)
        return [
            SentPicture(clean_name(name), decode_base64(data, where=where)) for where, name, data in entries
        ]


def parse_json(body: bytes, *, max_pictures: int, max_items: int = 0) -> Any:
    """Return the value of a JSON text.

    While Python makes the values, nothing else in the process runs, so that there must not be millions of
    them. Marks within texts are counted too, of which pictures in base64 have none.

    Args:
        body: The text.
        max_pictures: Most pictures in it, each an object with a few fields.
        max_items: Most items of lists, beside those for the pictures.

    Raises:
        HttpError: 400, it is none; 413, it has more values than a request needs.
    """
    allowed = _OTHER_VALUES + _VALUES_PER_PICTURE * max_pictures
    num_fields = body.count(b":") + body.count(b"{")
    if num_fields > allowed or body.count(b",") + body.count(b"[") > allowed + max_items:
        hint = "send fewer pictures at a time" if not max_items else "send binary data, or fewer pictures"
        raise HttpError(413, "the JSON has more values than a request needs", hint=hint)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and no UTF-8
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise HttpError(400, f"the body is not JSON: {reason}") from None


def _find_entries(value: Any) -> list[tuple[str, Any, Any]]:
    """Return where each picture is, its name and its data, in any of the shapes that are accepted."""
    if isinstance(value, dict):
        if "picture" in value:
            return [("picture", value.get("name"), value["picture"])]
        for key, inner in (("pictures", "data"), ("instances", "b64")):
            entries = value.get(key)
            if isinstance(entries, list):
                return [_find_entry(one, f"{key}[{index}]", inner) for index, one in enumerate(entries)]
    raise HttpError(400, f"the JSON is of another shape: {_JSON_SHAPES}")


def _find_entry(entry: Any, where: str, key: str) -> tuple[str, Any, Any]:
    if isinstance(entry, str):
        return where, None, entry
    if not isinstance(entry, dict) or key not in entry:
        raise HttpError(400, f"{where} has no {key!r}: {_JSON_SHAPES}")
    return f"{where}.{key}", entry.get("name"), entry[key]


def decode_base64(text: Any, *, where: str) -> bytes:
    """Return the bytes that a text in base64 stands for; a data URL's beginning and blanks are passed over.

    Args:
        text: The text, as it came.
        where: Its place, for the message.

    Raises:
        HttpError: 400, it is not base64, or empty.
    """
    if not isinstance(text, str):
        raise HttpError(400, f"{where} is not a text in base64")
    start = _DATA_URL.match(text[:300])
    content = text[start.end() if start else 0 :]
    try:
        data = base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise HttpError(400, f"{where} is not base64") from None
    if not data:
        raise HttpError(400, f"{where} is empty")
    return data
